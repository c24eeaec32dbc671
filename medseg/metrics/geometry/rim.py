"""Rims of masks: the voxels within a distance of the background."""

from __future__ import annotations

from math import floor, prod, sqrt

import numpy as np

from medseg.metrics.checks import BoolArray
from medseg.metrics.typed_wrappers import distance_to

SLACK_MM = 1e-6

_MOST_SHIFTS = 400
_BLOCK = 2**22


def rim(mask: BoolArray, spacing: tuple[float, ...], width_mm: float) -> BoolArray:
    """Return the voxels of a mask (*S) within a distance of the background, between voxel centers.

    Outside the array is background.

    Args:
        mask: 2 or 3 axes.
        spacing: mm per axis.
        width_mm: largest distance; 1e-6 mm are added for rounding.
    """
    limit = width_mm + SLACK_MM
    along = int(np.argmin(spacing))
    others = [axis for axis in range(mask.ndim) if axis != along]
    if prod(2 * min(floor(limit / spacing[axis]), mask.shape[axis]) + 1 for axis in others) <= _MOST_SHIFTS:
        return mask & _near_background(mask, spacing, limit, along)
    return _rim_by_transform(mask, spacing, limit)


def _near_background(mask: BoolArray, spacing: tuple[float, ...], limit: float, along: int) -> BoolArray:
    """Return the voxels within ``limit`` of the background.

    The background grows along one axis first. It is then shifted along the other axes, each shift with the
    growth that its length leaves.
    """
    reach = [min(floor(limit / step), size) for step, size in zip(spacing, mask.shape, strict=True)]
    background = np.pad(~mask, [(width, width) for width in reach], constant_values=True)
    shifts = _shifts(spacing, limit, along, reach)
    near = np.zeros(mask.shape, bool)
    grown = background
    for growth in range(reach[along] + 1):
        if growth:
            grown = _shifted_or(background, grown, growth, along)
        for shift in shifts.get(growth, ()):
            near |= grown[
                tuple(
                    slice(width + step, width + step + size)
                    for width, step, size in zip(reach, shift, mask.shape, strict=True)
                )
            ]
    return near


def _shifted_or(background: BoolArray, grown: BoolArray, growth: int, along: int) -> BoolArray:
    """Extend ``grown`` by the background shifted by ``growth`` voxels in both directions of an axis."""
    result = grown.copy()
    source, target = np.moveaxis(background, along, 0), np.moveaxis(result, along, 0)
    target[growth:] |= source[:-growth]
    target[:-growth] |= source[growth:]
    return result


def _shifts(
    spacing: tuple[float, ...], limit: float, along: int, reach: list[int]
) -> dict[int, list[tuple[int, ...]]]:
    """Return the shifts across an axis by the number of voxels that remain along it."""
    sizes = [1 if axis == along else 2 * width + 1 for axis, width in enumerate(reach)]
    shifts: dict[int, list[tuple[int, ...]]] = {}
    for index in np.ndindex(*sizes):
        shift = tuple(0 if axis == along else step - reach[axis] for axis, step in enumerate(index))
        rest = limit**2 - sum((step * mm) ** 2 for step, mm in zip(shift, spacing, strict=True))
        if rest >= 0:
            shifts.setdefault(min(floor(sqrt(rest) / spacing[along]), reach[along]), []).append(shift)
    return shifts


def _rim_by_transform(mask: BoolArray, spacing: tuple[float, ...], limit: float) -> BoolArray:
    """Compute the rim by distance transforms of overlapping blocks along the first axis."""
    padded = np.pad(mask, 1)
    margin = floor(limit / spacing[0]) + 1
    rows = max(margin, _BLOCK // max(1, padded[0].size))
    near = np.zeros(padded.shape, bool)
    for start in range(0, len(padded), rows):
        low, stop = max(0, start - margin), start + rows
        distances = distance_to(~padded[low : stop + margin], spacing)
        near[start:stop] = distances[start - low : start - low + rows] <= limit
    inner = tuple(slice(1, -1) for _ in range(mask.ndim))
    return mask & near[inner]
