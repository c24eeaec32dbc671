"""Distances from many voxels to a distant set, by two-dimensional distance transforms of the planes of a grid.

Unlike a k-d tree, the time does not depend on how the voxels lie; unlike a transform of the whole grid, memory
is that of one plane.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray
from medseg.metrics.typed_wrappers import distance_to

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

_SECONDS_PER_VOXEL = 7e-8
_SECONDS_PER_LOOKUP = 5e-9


def sweep_planes(places: IndexArray, targets: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    """Return the distances (N,) in mm from places (d, N) of a grid to the nearest target.

    For each plane with targets, the squared distance of a place is the squared distance within the plane plus
    the squared distance to the plane.

    Args:
        places: grid indices, 2 or 3 axes.
        targets: mask (*S) with at least one voxel.
        spacing: mm per axis.
    """
    if targets.ndim == 2:
        return distance_to(targets, spacing)[tuple(places)]
    axis = int(np.argmin(targets.shape))
    others = [other for other in range(3) if other != axis]
    planes = np.moveaxis(targets, axis, 0)
    plane_spacing = (spacing[others[0]], spacing[others[1]])
    inside = places[others[0]] * planes.shape[2] + places[others[1]]
    height = places[axis] * spacing[axis]
    nearest = np.full(places.shape[1], np.inf)
    for number in np.flatnonzero(planes.any(axis=(1, 2))).tolist():
        within = distance_to(np.ascontiguousarray(planes[number]), plane_spacing)
        np.square(within, out=within)
        candidate = within.ravel().take(inside)
        candidate += np.square(height - number * spacing[axis])
        np.minimum(nearest, candidate, out=nearest)
    return np.sqrt(nearest)


def sweep_seconds(queries: int, shape: tuple[int, ...], blocks: int = 1) -> float:
    """Estimate the time of ``sweep_planes`` for a number of queries, split into blocks."""
    planes = 1 if len(shape) == 2 else min(shape)
    voxels = float(np.prod(shape, dtype=np.float64))
    return blocks * voxels * _SECONDS_PER_VOXEL + queries * planes * _SECONDS_PER_LOOKUP
