"""One resampling of image and label for all spatial transforms of a patch.

Both are gathered from the same positions: the image by (bi-, tri-)linear interpolation, the label by nearest
neighbor. The positions are handled in slabs that fit in the processor's cache. On one core of a CPU this takes
a third of the time of ``torch.nn.functional.grid_sample`` in 3D, and the label keeps its integer type.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from medseg.geometry import Array

_SLAB = 2**15
"""Positions that are handled together."""


def resample(
    image: torch.Tensor,
    label: torch.Tensor,
    matrix: Array,
    size: Sequence[int],
    displacement: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample an image and its label around the center.

    Args:
        image: (C, *R) float32, interpolated linearly.
        label: (1, *R) integers, interpolated by nearest neighbor.
        matrix: (n, n) linear map from output to input voxels, relative to the centers.
        size: size *P of the result.
        displacement: (n, *P) float32, added to the positions in the input, in voxels.

    Returns:
        Image (C, *P) and label (1, *P); 0 outside the input.
    """
    if _reaches_outside(image.shape[1:], matrix, size, displacement):
        border = (1, 1) * len(size)
        image, label = F.pad(image, border), F.pad(label, border)
    source = image.shape[1:]
    strides = tuple(int(np.prod(source[axis + 1 :])) for axis in range(len(source)))
    channels, codes = image.reshape(len(image), -1), label.reshape(-1)
    terms = _position_terms(matrix, source, size)
    new_image = torch.empty((len(image), *size), dtype=image.dtype)
    new_label = torch.empty((1, *size), dtype=label.dtype)
    planes = max(1, _SLAB // int(np.prod(size[1:])))
    for first in range(0, size[0], planes):
        rows = slice(first, min(first + planes, size[0]))
        positions = _positions(terms, rows, source, None if displacement is None else displacement[:, rows])
        nearest = _flat_index([(p + 0.5).int() for p in positions], strides).reshape(-1)
        new_label[0, rows] = codes.index_select(0, nearest).reshape(new_label[0, rows].shape)
        index = _flat_index([p.int() for p in positions], strides).reshape(-1)
        weights = [p.frac_().reshape(-1) for p in positions]
        for channel, new in zip(channels, new_image[:, rows], strict=True):
            new.copy_(_interpolate(channel, index, weights, strides).reshape(new.shape))
    return new_image, new_label


def _reaches_outside(
    source: Sequence[int], matrix: Array, size: Sequence[int], displacement: torch.Tensor | None
) -> bool:
    """Whether a position may lie outside the centers of the outermost voxels of the source."""
    reach = np.abs(matrix) @ (np.array(size) - 1) / 2
    if displacement is not None:
        reach = reach + displacement.abs().amax(dim=tuple(range(1, displacement.ndim))).numpy()
    half = (np.array(source) - 1) / 2
    return bool((reach > half + 1e-4).any()) or min(source) < 2


def _position_terms(matrix: Array, source: Sequence[int], size: Sequence[int]) -> list[list[torch.Tensor]]:
    """Compute what each index of the output adds to the position along each axis of the source."""
    offsets = [np.arange(n) - (n - 1) / 2 for n in size]
    terms = []
    for row, n in zip(matrix, source, strict=True):
        parts = [factor * offset for factor, offset in zip(row, offsets, strict=True)]
        parts[0] = parts[0] + (n - 1) / 2
        terms.append([torch.from_numpy(part.astype(np.float32)) for part in parts])
    return terms


def _positions(
    terms: list[list[torch.Tensor]], rows: slice, source: Sequence[int], displacement: torch.Tensor | None
) -> list[torch.Tensor]:
    """Compute the position along each axis of the source for some rows of the output, within the source."""
    positions = []
    for axis, (parts, n) in enumerate(zip(terms, source, strict=True)):
        position = parts[0][rows]
        for part in parts[1:]:
            position = position.unsqueeze(-1) + part
        if displacement is not None:
            position = position + displacement[axis]
        below_last = float(np.nextafter(np.float32(n - 1), np.float32(0)))  # its successor exists
        positions.append(position.clamp_(0, below_last))
    return positions


def _flat_index(indices: list[torch.Tensor], strides: Sequence[int]) -> torch.Tensor:
    """Combine int32 indices along each axis to indices of the flat array."""
    flat = indices[-1]
    for index, stride in zip(indices[:-1], strides[:-1], strict=True):
        flat.add_(index, alpha=stride)
    return flat


def _interpolate(
    flat: torch.Tensor, index: torch.Tensor, weights: list[torch.Tensor], strides: Sequence[int]
) -> torch.Tensor:
    """Interpolate linearly between the voxels at ``index`` and their successors along each axis."""
    if not weights:
        return flat.index_select(0, index)
    near = _interpolate(flat, index, weights[1:], strides[1:])
    far = _interpolate(flat[strides[0] :], index, weights[1:], strides[1:])
    return near.lerp_(far, weights[0])
