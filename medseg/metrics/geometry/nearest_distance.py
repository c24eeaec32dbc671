"""Exact distances from voxels of a grid to the nearest voxels of another set.

Three exact methods are tried, the cheapest first: a scan of neighboring voxels in order of their distance, a
k-d tree, and, if the tree would be slow, a distance transform of the whole grid.
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
_TRANSFORM_SECONDS_PER_VOXEL = 1.2e-7


def nearest_distances(queries: BoolArray, targets: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    """Return the distance in mm from each voxel of ``queries`` to the nearest voxel of ``targets``.

    Args:
        queries: mask (*S), 2 or 3 axes.
        targets: mask (*S) with at least one voxel.
        spacing: mm per axis.

    Returns:
        Distances (N,) of the query voxels in C order.
    """
    indices = grid_indices(queries)
    distances, remaining = scan_neighbors(indices, targets, spacing)
    if not remaining.size:
        return distances
    indices = indices[:, remaining]
    points = index_points(indices, spacing)
    tree = point_tree(index_points(grid_indices(targets), spacing), _LEAF)
    if tree_is_slow(tree, points, targets.size, max(spacing)):
        distances[remaining] = distance_to(targets, spacing)[tuple(indices)]
    else:
        distances[remaining] = tree.query(points, workers=-1)[0]
    return distances


def grid_indices(mask: BoolArray) -> IndexArray:
    """Return the indices (d, N) of the true voxels of a mask, in C order."""
    return np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape))


def index_points(indices: IndexArray, spacing: tuple[float, ...]) -> FloatArray:
    """Convert grid indices (d, N) to points (N, d) in mm."""
    return indices.T * np.array(spacing, np.float64)


def scan_neighbors(
    indices: IndexArray, targets: BoolArray, spacing: tuple[float, ...]
) -> tuple[FloatArray, IndexArray]:
    """Search the targets among the nearest offsets of each index.

    Offsets are visited in order of their distance, so the first that hits a target gives the exact distance.

    Returns:
        Distances (N,) of the indices (d, N), nan without a target, and the positions of those without one.
    """
    offsets, lengths = nearest_offsets(spacing)
    reach = np.abs(offsets).max(axis=0)
    padded = np.pad(targets, [(int(width), int(width)) for width in reach])
    strides = np.array(padded.strides)  # in elements too: booleans are bytes
    positions: IndexArray = strides @ (indices + reach[:, None])
    flat: BoolArray = padded.ravel()
    remaining: IndexArray = np.arange(positions.size)
    distances = np.full(positions.size, np.nan)
    for step, length in zip((offsets @ strides).tolist(), lengths.tolist(), strict=True):
        hit = flat[positions + step]
        if not hit.any():
            continue
        distances[remaining[hit]] = length
        miss = ~hit
        remaining, positions = remaining[miss], positions[miss]
        if not remaining.size:
            break
    return distances, remaining


def nearest_offsets(spacing: tuple[float, ...]) -> tuple[IndexArray, FloatArray]:
    """Return the grid offsets (N, d) nearest to the origin, ascending, and their lengths (N,) in mm.

    N is at most 256. No offset that is left out is shorter than an included one.
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
    """Estimate from a sample of the points (N, d) in mm whether a grid transform is faster than the tree.

    A query visits about the targets within the distance of its nearest one plus the width of a leaf.
    """
    transform = grid_size * _TRANSFORM_SECONDS_PER_VOXEL
    if len(points) * (_TREE_SECONDS_PER_QUERY + tree.n * _TREE_SECONDS_PER_POINT) <= transform:
        return False
    sample = points[:: ceil(len(points) / _SAMPLE)]
    leaf_width = coarsest * _LEAF ** (1 / 2)
    radii = tree.query(sample)[0] + leaf_width
    visited = float(np.mean(tree.query_ball_point(sample, radii, return_length=True)))
    return len(points) * (_TREE_SECONDS_PER_QUERY + visited * _TREE_SECONDS_PER_POINT) > transform
