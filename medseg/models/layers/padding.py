"""Padding, cropping and interpolation, so that networks accept images of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def padded_size(size: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """Round ``size`` up to multiples of a network's total strides, axis by axis.

    At least two voxels remain at the network's coarsest level (the last axis is doubled where one would
    remain): a norm cannot compute the variance of a single value.

    Example:
        >>> padded_size((33, 48), (16, 16))
        (48, 48)
    """
    padded = [-(-length // step) * step for length, step in zip(size, multiple, strict=True)]
    if padded == list(multiple):
        padded[-1] *= 2
    return tuple(padded)


def pad_end(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Pad ``image`` (B, C, *S) to ``size`` at the end of each axis by repeating the border voxels."""
    missing = [new - old for new, old in zip(size, image.shape[2:], strict=True)]
    if not any(missing):
        return image
    return F.pad(image, [width for after in reversed(missing) for width in (0, after)], mode="replicate")


def crop_end(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return the first ``size`` voxels of ``image`` (B, C, *S) along each axis, as a view."""
    for axis, length in enumerate(size, start=2):
        image = image.narrow(axis, 0, length)
    return image


def resize_linear(image: torch.Tensor, size: Sequence[int], *, align_corners: bool = False) -> torch.Tensor:
    """Interpolate ``image`` (B, C, *S) to ``size``: bilinear in 2D, trilinear in 3D.

    ``align_corners`` is that of ``torch.nn.functional.interpolate``.
    """
    if tuple(image.shape[2:]) == tuple(size):
        return image
    return F.interpolate(image, size=tuple(size), mode=linear_mode(len(size)), align_corners=align_corners)


def linear_mode(spatial_dims: int) -> str:
    """Return PyTorch's name of linear interpolation in 2 or 3 dimensions."""
    return "bilinear" if spatial_dims == 2 else "trilinear"
