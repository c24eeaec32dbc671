"""Any input size: pad to what a network's strides need, crop what it returns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def padded_size(size: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """The smallest size that holds ``size`` and that total strides of ``multiple`` divide, axis by axis.

    At least two voxels are left at the bottom of the network (the last axis is doubled where it would be
    one): a norm cannot take the variance of a single value.
    """
    padded = [-(-length // step) * step for length, step in zip(size, multiple, strict=True)]
    if padded == list(multiple):
        padded[-1] *= 2
    return tuple(padded)


def pad_end(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """``image`` (B, C, *S) grown to ``size`` at the end of each axis, repeating the border voxels."""
    missing = [new - old for new, old in zip(size, image.shape[2:], strict=True)]
    if not any(missing):
        return image
    return F.pad(image, [width for after in reversed(missing) for width in (0, after)], mode="replicate")


def crop_end(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The first ``size`` voxels of ``image`` (B, C, *S) along each axis, as a view."""
    for axis, length in enumerate(size, start=2):
        image = image.narrow(axis, 0, length)
    return image


def resize_linear(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """``image`` (B, C, *S) interpolated to ``size``: bilinear in 2D, trilinear in 3D, corners not aligned."""
    if tuple(image.shape[2:]) == tuple(size):
        return image
    return F.interpolate(image, size=tuple(size), mode=linear_mode(len(size)), align_corners=False)


def linear_mode(spatial_dims: int) -> str:
    """torch's name for linear interpolation in 2 or 3 dimensions."""
    return "bilinear" if spatial_dims == 2 else "trilinear"
