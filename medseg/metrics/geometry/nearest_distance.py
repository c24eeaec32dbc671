"""Exact nearest distances from some places of a grid to others, whatever their number and distance.

Three ways, each exact, tried from the cheapest on: looking at the neighboring places in order of their
distance, a k-d tree, and (where the tree would be slow) a distance transform of the whole grid.
"""

from __future__ import annotations

from math import ceil, pi

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray
from medseg.metrics.typed_wrappers import PointTree, distance_to, point_tree

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

_SCAN_OFFSETS = 256
_SAMPLE = 64
_LEAF = 32
_TREE_SECONDS_PER_POINT = 8e-9
_TREE_SECONDS_PER_QUERY = 2e-6
_TRANSFORM_SECONDS_PER_PLACE = 1.2e-7


def nearest_distances(queries: BoolArray, targets: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    """Distance in mm from each place of ``queries`` (C order) to the nearest place of ``targets``.

    Both are masks of one grid (2 or 3 axes) with ``spacing`` in mm per axis; ``targets`` holds a place.
    """
    places = grid_places(queries)
    distances, left = scan_neighbors(places, targets, spacing)
    if not left.size:
        return distances
    places = places[:, left]
    points = place_points(places, spacing)
    tree = point_tree(place_points(grid_places(targets), spacing), _LEAF)
    if tree_is_slow(tree, points, targets.size, max(spacing)):
        distances[left] = distance_to(targets, spacing)[tuple(places)]
    else:
        distances[left] = tree.query(points, workers=-1)[0]
    return distances


def grid_places(mask: BoolArray) -> IndexArray:
    """Indices (d, N) of the true places of ``mask``, in C order."""
    return np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape))


def place_points(places: IndexArray, spacing: tuple[float, ...]) -> FloatArray:
    """Points (N, d) in mm of the grid indices ``places`` (d, N)."""
    return places.T * np.array(spacing, np.float64)


def scan_neighbors(
    places: IndexArray, targets: BoolArray, spacing: tuple[float, ...]
) -> tuple[FloatArray, IndexArray]:
    """Distances (N,) of ``places`` (d, N), and which of them have no target among the nearest offsets.

    Offsets come in order of their distance, so the first that hits a target gives the exact distance;
    where none does it is nan.
    """
    offsets, lengths = nearest_offsets(spacing)
    reach = np.abs(offsets).max(axis=0)
    padded = np.pad(targets, [(int(width), int(width)) for width in reach])
    strides = np.array(padded.strides)  # in elements too: booleans are bytes
    positions: IndexArray = strides @ (places + reach[:, None])
    flat: BoolArray = padded.ravel()
    left: IndexArray = np.arange(positions.size)
    distances = np.full(positions.size, np.nan)
    for step, length in zip((offsets @ strides).tolist(), lengths.tolist(), strict=True):
        hit = flat[positions + step]
        if not hit.any():
            continue
        distances[left[hit]] = length
        miss = ~hit
        left, positions = left[miss], positions[miss]
        if not left.size:
            break
    return distances, left


def nearest_offsets(spacing: tuple[float, ...]) -> tuple[IndexArray, FloatArray]:
    """The grid offsets (N, d) nearest to the origin, ascending, and their lengths (N,) in mm.

    N is at most 256, and no offset that was left out is shorter than one that was taken.
    """
    scale, ndim = np.array(spacing), len(spacing)
    unit_ball = pi if ndim == 2 else 4 / 3 * pi
    radius = (_SCAN_OFFSETS * float(scale.prod()) / unit_ball) ** (1 / ndim)
    reach = np.minimum(np.floor(radius / scale).astype(np.intp), _SCAN_OFFSETS)
    grid: IndexArray = np.indices(tuple(2 * reach + 1)).reshape(ndim, -1).T - reach
    lengths = np.linalg.norm(grid * scale, axis=1)
    order = np.argsort(lengths, kind="stable")[:_SCAN_OFFSETS]
    order = order[lengths[order] <= radius]
    return grid[order], lengths[order]


def tree_is_slow(tree: PointTree, points: FloatArray, grid_size: int, coarsest: float) -> bool:
    """Whether a transform of the grid beats the tree, judged from a sample of the points (N, d), in mm.

    A query visits about the targets that lie no farther than its nearest one plus a leaf's width.
    """
    transform = grid_size * _TRANSFORM_SECONDS_PER_PLACE
    if len(points) * (_TREE_SECONDS_PER_QUERY + tree.n * _TREE_SECONDS_PER_POINT) <= transform:
        return False
    sample = points[:: ceil(len(points) / _SAMPLE)]
    leaf_width = coarsest * _LEAF ** (1 / 2)
    radii = tree.query(sample)[0] + leaf_width
    visited = float(np.mean(tree.query_ball_point(sample, radii, return_length=True)))
    return len(points) * (_TREE_SECONDS_PER_QUERY + visited * _TREE_SECONDS_PER_POINT) > transform
