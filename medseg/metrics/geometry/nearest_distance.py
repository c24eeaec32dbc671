"""Exact distances from voxels of a grid to the nearest voxels of another set, as a histogram.

Distances on a grid repeat, so a histogram of them is small whatever the number of voxels is. Three exact
methods are tried, the cheapest first: a scan of neighboring voxels in order of their distance, a k-d tree, and,
where the tree would be slow, distance transforms of the planes of the grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, pi

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray
from medseg.metrics.geometry.plane_sweep import sweep_planes, sweep_seconds
from medseg.metrics.typed_wrappers import PointTree, point_tree

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
CodeArray = NDArray[np.uint8]

_SCAN_OFFSETS = 512
_BLOCK = 2**22
_FAR_BLOCK = 2**21
_SAMPLE = 64
_LEAF = 32
_TREE_SECONDS_PER_TARGET = 3e-7
_TREE_SECONDS_PER_VISIT = 8e-9
_TREE_SECONDS_PER_QUERY = 2e-6


@dataclass(frozen=True, slots=True)
class DistanceHistogram:
    """Number of query voxels at each distance.

    Attributes:
        distances: (D,) distinct distances in mm, ascending.
        counts: (D, K) voxels at each distance by code; K is 1 without codes.
    """

    distances: FloatArray
    counts: IndexArray


def distance_histogram(
    queries: BoolArray, targets: BoolArray, spacing: tuple[float, ...], codes: CodeArray | None = None
) -> DistanceHistogram:
    """Count the voxels of ``queries`` by their distance to the nearest voxel of ``targets``.

    Args:
        queries: mask (*S), 2 or 3 axes.
        targets: mask (*S) with at least one voxel.
        spacing: mm per axis.
        codes: a code (*S) for each voxel, to count voxels of different codes separately. If None, all have
            code 0.
    """
    neighborhood = nearest_neighborhood(spacing)
    scan = _Scan(targets, neighborhood, 1 if codes is None else 256)
    far = [scan.count(*block) for block in _blocks(queries, codes)]
    places = np.concatenate([places for places, _ in far], axis=1)
    kinds = np.concatenate([kinds for _, kinds in far])
    seen = scan.counts.any(axis=1)
    near = DistanceHistogram(neighborhood.lengths[seen], scan.counts[seen])
    if not kinds.size:
        return near
    distances = _far_distances(places, targets, spacing)
    values, position = np.unique(distances, return_inverse=True)
    width = near.counts.shape[1]
    counts = np.bincount(position * width + kinds, minlength=len(values) * width).reshape(-1, width)
    return DistanceHistogram(
        np.concatenate([near.distances, values]), np.concatenate([near.counts, counts.astype(np.intp)])
    )


@dataclass(frozen=True, slots=True)
class Neighborhood:
    """Grid offsets nearest to the origin.

    Attributes:
        offsets: (N, d) in groups of the same length, ascending.
        starts: (L + 1,) first offset of each group.
        lengths: (L,) length of the offsets of each group in mm. No offset that is left out is shorter than
            an included one.
    """

    offsets: IndexArray
    starts: tuple[int, ...]
    lengths: FloatArray


@lru_cache(maxsize=64)
def nearest_neighborhood(spacing: tuple[float, ...]) -> Neighborhood:
    """Return at most 512 offsets nearest to the origin."""
    scale, ndim = np.array(spacing), len(spacing)
    unit_ball = pi if ndim == 2 else 4 / 3 * pi
    radius = (_SCAN_OFFSETS * float(scale.prod()) / unit_ball) ** (1 / ndim)
    reach = np.minimum(np.floor(radius / scale).astype(np.intp), _SCAN_OFFSETS)
    grid: IndexArray = np.indices(tuple(2 * reach + 1)).reshape(ndim, -1).T - reach
    lengths = np.linalg.norm(grid * scale, axis=1)
    order = np.argsort(lengths, kind="stable")[:_SCAN_OFFSETS]
    order = order[lengths[order] <= radius]
    ascending = lengths[order]
    starts = [0, *(np.flatnonzero(np.diff(ascending) > 1e-9 * ascending[1:]) + 1).tolist(), len(order)]
    return Neighborhood(grid[order], tuple(starts), ascending[starts[:-1]])


class _Scan:
    """Search the targets among the nearest offsets of voxels, and count the voxels by distance.

    Offsets are visited in order of their length, so the first that hits a target gives the exact distance.
    """

    def __init__(self, targets: BoolArray, neighborhood: Neighborhood, num_codes: int) -> None:
        reach = np.abs(neighborhood.offsets).max(axis=0)
        padded = np.pad(targets, [(int(width), int(width)) for width in reach])
        self.shape = targets.shape
        self.strides = [int(stride) for stride in padded.strides]  # in elements too: booleans are bytes
        self.flat: BoolArray = padded.ravel()
        self.start = int(reach @ np.array(self.strides))
        steps = (neighborhood.offsets @ np.array(self.strides)).tolist()
        self.groups = [
            steps[low:high] for low, high in zip(neighborhood.starts[:-1], neighborhood.starts[1:], strict=True)
        ]
        self.counts = np.zeros((len(self.groups), num_codes), np.intp)

    def count(self, voxels: IndexArray, kinds: CodeArray) -> tuple[IndexArray, CodeArray]:
        """Count voxels (N,), given as flat indices; return the places (d, M) and codes of those not found."""
        places = np.stack(np.unravel_index(voxels, self.shape))
        base = sum(place * stride for place, stride in zip(places, self.strides, strict=True))
        remaining = np.arange(voxels.size)
        num_codes = self.counts.shape[1]
        for row, steps in enumerate(self.groups):
            hit = self._at(base, steps[0])
            for step in steps[1:]:
                hit |= self._at(base, step)
            found = np.flatnonzero(hit)
            if not found.size:
                continue
            self.counts[row] += np.bincount(kinds.take(found), minlength=num_codes)
            left = np.flatnonzero(~hit)
            base, kinds, remaining = base.take(left), kinds.take(left), remaining.take(left)
            if not remaining.size:
                break
        return places[:, remaining], kinds

    def _at(self, base: IndexArray, step: int) -> BoolArray:
        return self.flat[self.start + step :].take(base)


def _blocks(queries: BoolArray, codes: CodeArray | None) -> Iterator[tuple[IndexArray, CodeArray]]:
    """Yield flat indices and codes of the query voxels, block by block of the grid."""
    flat = queries.reshape(-1)
    for start in range(0, max(flat.size, 1), _BLOCK):
        voxels: IndexArray = np.flatnonzero(flat[start : start + _BLOCK])
        voxels += start
        kinds = np.zeros(voxels.size, np.uint8) if codes is None else codes.reshape(-1).take(voxels)
        yield voxels, kinds


def _far_distances(places: IndexArray, targets: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    """Return the distances (N,) of places (d, N) to the nearest target, by a tree or by distance transforms."""
    tree = _tree_if_fast(places, targets, spacing)
    distances = np.empty(places.shape[1])
    for start in range(0, distances.size, _FAR_BLOCK):
        part = places[:, start : start + _FAR_BLOCK]
        distances[start : start + _FAR_BLOCK] = (
            sweep_planes(part, targets, spacing) if tree is None else tree.query(index_points(part, spacing))[0]
        )
    return distances


def _tree_if_fast(places: IndexArray, targets: BoolArray, spacing: tuple[float, ...]) -> PointTree | None:
    """Return a tree of the targets, or None if distance transforms of the planes are faster."""
    blocks = ceil(places.shape[1] / _FAR_BLOCK)
    limit = sweep_seconds(places.shape[1], targets.shape, blocks)
    if int(np.count_nonzero(targets)) * _TREE_SECONDS_PER_TARGET > limit:
        return None
    indices = np.stack(np.unravel_index(np.flatnonzero(targets), targets.shape))
    tree = point_tree(index_points(indices, spacing), _LEAF)
    sample = index_points(places[:, :: ceil(places.shape[1] / _SAMPLE)], spacing)
    return None if tree_seconds(tree, sample, places.shape[1], max(spacing)) > limit else tree


def index_points(indices: IndexArray, spacing: tuple[float, ...]) -> FloatArray:
    """Convert grid indices (d, N) to points (N, d) in mm."""
    return indices.T * np.array(spacing, np.float64)


def tree_seconds(tree: PointTree, sample: FloatArray, queries: int, coarsest: float) -> float:
    """Estimate the time of a number of queries of a tree from a sample of their points (N, d) in mm.

    A query visits about the targets within the distance of its nearest one plus the width of a leaf.
    """
    radii = tree.query(sample)[0] + coarsest * _LEAF ** (1 / 2)
    visited = float(np.mean(tree.query_ball_point(sample, radii, return_length=True)))
    return queries * (_TREE_SECONDS_PER_QUERY + visited * _TREE_SECONDS_PER_VISIT)
