"""Distances from many voxels to a distant set, by two-dimensional distance transforms of the planes of a grid.

Unlike that of a k-d tree, the time does not depend on how the voxels lie. Unlike a transform of the whole grid
by SciPy, memory is that of one plane, or of two grids where most voxels are asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray
from medseg.metrics.typed_wrappers import distance_to

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

_SECONDS_PER_VOXEL = 7e-8
_SECONDS_PER_LOOKUP = 8e-9


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
    plane_spacing = tuple(spacing[other] for other in others)
    inside: IndexArray = places[others[0]] * planes.shape[2] + places[others[1]]
    height = places[axis] * spacing[axis]
    nearest = np.full(places.shape[1], np.inf)
    for number in np.flatnonzero(planes.any(axis=(1, 2))).tolist():
        candidate: FloatArray = _squared(planes[number], plane_spacing).ravel().take(inside)
        candidate += np.square(height - number * spacing[axis])
        np.minimum(nearest, candidate, out=nearest)
    return np.sqrt(nearest)


def sweep_seconds(queries: int, shape: tuple[int, ...]) -> float:
    """Estimate the time of ``sweep_planes`` for a number of queries."""
    planes = 1 if len(shape) == 2 else min(shape)
    voxels = float(np.prod(shape, dtype=np.float64))
    return voxels * _SECONDS_PER_VOXEL + queries * planes * _SECONDS_PER_LOOKUP


def transform_grid(targets: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    """Return the distance in mm from each voxel of a grid (*S) to the nearest target.

    The squared distances of the planes are combined plane by plane, up to the largest distance that remains.

    Args:
        targets: mask (*S) with at least one voxel, 2 or 3 axes.
        spacing: mm per axis.
    """
    if targets.ndim == 2:
        return distance_to(targets, spacing)
    axis = int(np.argmin(targets.shape))
    planes = np.moveaxis(targets, axis, 0)
    plane_spacing = tuple(spacing[other] for other in range(3) if other != axis)
    within = np.stack([_squared(plane, plane_spacing) for plane in planes])
    nearest = within.copy()
    for step in range(1, len(planes)):
        gap = (step * spacing[axis]) ** 2
        if gap >= nearest.max():
            break
        for number in range(len(planes) - step):
            below, above = number, number + step
            np.minimum(nearest[below], within[above] + gap, out=nearest[below])
            np.minimum(nearest[above], within[below] + gap, out=nearest[above])
    np.sqrt(nearest, out=nearest)
    return np.moveaxis(nearest, 0, axis)


def _squared(plane: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    """Return the squared distances within a plane; inf without targets."""
    if not plane.any():
        return np.full(plane.shape, np.inf)
    distances = distance_to(np.ascontiguousarray(plane), spacing)
    return np.square(distances, out=distances)
