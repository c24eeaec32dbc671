"""Exact distances from voxels of a grid to the nearest voxels of another set, as a histogram.

Distances on a grid repeat, so a histogram of them is small whatever the number of voxels is. Three exact
methods are tried, the cheapest first: a scan of neighboring voxels in order of their distance, a k-d tree, and,
where the tree would be slow, distance transforms of the planes of the grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, log2, pi

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray
from medseg.metrics.geometry.plane_transforms import sweep_planes, sweep_seconds, transform_grid
from medseg.metrics.typed_wrappers import PointTree, point_tree

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
CodeArray = NDArray[np.uint8]

_SCAN_OFFSETS = 512
_BLOCK = 2**22
_DENSE = 1 / 8
_LARGEST_TRANSFORM = 2**26
_SAMPLE = 64
_LEAF = 32
_SCAN_SECONDS_PER_LOOKUP = 3e-9
_TREE_SECONDS_PER_LEVEL = 1e-7
_TREE_SECONDS_PER_TARGET = 3e-7
_TREE_SECONDS_PER_VISIT = 8e-9
_TREE_SECONDS_PER_QUERY = 2e-6


@dataclass(frozen=True, slots=True)
class Elements:
    """Weighted voxels of a grid.

    Attributes:
        positions: mask (*S), 2 or 3 axes.
        codes: code (*S) of each voxel.
        table: (K,) weight of each code.
    """

    positions: BoolArray
    codes: CodeArray
    table: FloatArray


@dataclass(frozen=True, slots=True)
class DistanceHistogram:
    """Number and weight of voxels at each distance.

    Attributes:
        distances: (D,) in mm, not sorted; a value can be repeated.
        counts: (D,) voxels at each distance.
        weights: (D,) sum of their weights.
    """

    distances: FloatArray
    counts: IndexArray
    weights: FloatArray


def distance_histogram(elements: Elements, targets: BoolArray, spacing: tuple[float, ...]) -> DistanceHistogram:
    """Count elements by their distance to the nearest voxel of ``targets``.

    Args:
        elements: weighted voxels of a grid.
        targets: mask (*S) with at least one voxel.
        spacing: mm per axis.
    """
    scan = _Scan(elements, targets, nearest_neighborhood(spacing))
    far = [scan.count(*block) for block in _blocks(elements)]
    voxels = np.concatenate([voxels for voxels, _ in far])
    kinds = np.concatenate([kinds for _, kinds in far])
    del far
    parts = [scan.histogram()]
    distances = _far_distances(voxels, targets, spacing) if voxels.size else ()
    for start, values in zip(range(0, voxels.size, _BLOCK), distances, strict=True):
        parts.append(_grouped(values, elements.table[kinds[start : start + _BLOCK]]))
    return DistanceHistogram(
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.weights for part in parts]),
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

    Offsets are visited in order of their length, so the first that hits a target gives the exact distance. The
    search ends where a tree or distance transforms would have been faster.
    """

    def __init__(self, elements: Elements, targets: BoolArray, neighborhood: Neighborhood) -> None:
        reach = np.abs(neighborhood.offsets).max(axis=0)
        padded = np.pad(targets, [(int(width), int(width)) for width in reach])
        self.table = elements.table
        self.shape = targets.shape
        self.strides = [int(stride) for stride in padded.strides]  # in elements too: booleans are bytes
        self.flat: BoolArray = padded.ravel()
        self.start = int(reach @ np.array(self.strides))
        self.lengths = neighborhood.lengths
        self.steps = _grouped_steps(neighborhood, self.strides)
        self.counts = np.zeros((len(self.steps), len(self.table)), np.intp)
        queries = max(1, int(np.count_nonzero(elements.positions)))
        tree = _TREE_SECONDS_PER_LEVEL * log2(2 * int(np.count_nonzero(targets)))
        self.most_seconds = min(tree, sweep_seconds(queries, self.shape) / queries)

    def count(self, voxels: IndexArray, kinds: CodeArray) -> tuple[IndexArray, CodeArray]:
        """Count voxels (N,), given as flat indices; return the indices and codes (M,) of those not found."""
        base = self._padded_indices(voxels)
        seconds = 0.0
        for row, steps in enumerate(self.steps):
            if seconds > self.most_seconds * voxels.size:
                break
            seconds += len(steps) * voxels.size * _SCAN_SECONDS_PER_LOOKUP
            hit = self._at(base, steps[0])
            for step in steps[1:]:
                hit |= self._at(base, step)
            found = np.flatnonzero(hit)
            if not found.size:
                continue
            self.counts[row] += np.bincount(kinds.take(found), minlength=len(self.table))
            left = np.flatnonzero(~hit)
            base, kinds, voxels = base.take(left), kinds.take(left), voxels.take(left)
            if not voxels.size:
                break
        return voxels, kinds

    def histogram(self) -> DistanceHistogram:
        """Return the voxels counted so far."""
        seen = self.counts.any(axis=1)
        counts = self.counts[seen]
        return DistanceHistogram(self.lengths[seen], counts.sum(axis=1), counts @ self.table)

    def _padded_indices(self, voxels: IndexArray) -> IndexArray:
        """Convert flat indices of the grid to those of the padded grid, less those of the padding."""
        base = np.zeros(voxels.shape, np.intp)
        rest = voxels
        for size, stride in zip(self.shape[:0:-1], self.strides[:0:-1], strict=True):
            rest, place = np.divmod(rest, size)
            base += place * stride
        return base + rest * self.strides[0]

    def _at(self, base: IndexArray, step: int) -> BoolArray:
        return self.flat[self.start + step :].take(base)


def _grouped_steps(neighborhood: Neighborhood, strides: list[int]) -> list[list[int]]:
    """Return the offsets as differences of flat indices, in groups of the same length."""
    steps = (neighborhood.offsets @ np.array(strides)).tolist()
    bounds = zip(neighborhood.starts[:-1], neighborhood.starts[1:], strict=True)
    return [steps[low:high] for low, high in bounds]


def _blocks(elements: Elements) -> Iterator[tuple[IndexArray, CodeArray]]:
    """Yield flat indices and codes of the elements, block by block of the grid."""
    positions, codes = elements.positions.reshape(-1), elements.codes.reshape(-1)
    for start in range(0, max(positions.size, 1), _BLOCK):
        voxels: IndexArray = np.flatnonzero(positions[start : start + _BLOCK])
        voxels += start
        yield voxels, codes.take(voxels)


def _grouped(distances: FloatArray, weights: FloatArray) -> DistanceHistogram:
    values, position, counts = np.unique(distances, return_inverse=True, return_counts=True)
    return DistanceHistogram(values, counts, np.bincount(position, weights).astype(np.float64))


def _far_distances(voxels: IndexArray, targets: BoolArray, spacing: tuple[float, ...]) -> Iterator[FloatArray]:
    """Yield the distances of voxels (N,), given as flat indices, to the nearest target, in blocks."""
    tree = _tree_if_fast(voxels, targets, spacing)
    grid = None
    if tree is None and _DENSE * targets.size < voxels.size and targets.size <= _LARGEST_TRANSFORM:
        grid = np.ascontiguousarray(transform_grid(targets, spacing)).reshape(-1)
    for start in range(0, voxels.size, _BLOCK):
        part = voxels[start : start + _BLOCK]
        if grid is not None:
            yield grid.take(part)
            continue
        places = np.stack(np.unravel_index(part, targets.shape))
        if tree is not None:
            yield tree.query(index_points(places, spacing))[0]
        else:
            yield sweep_planes(places, targets, spacing)


def _tree_if_fast(voxels: IndexArray, targets: BoolArray, spacing: tuple[float, ...]) -> PointTree | None:
    """Return a tree of the targets, or None if distance transforms are faster."""
    limit = sweep_seconds(voxels.size, targets.shape)
    if targets.ndim == 2 and targets.size > _LARGEST_TRANSFORM:
        limit = inf  # a transform would need too much memory
    if int(np.count_nonzero(targets)) * _TREE_SECONDS_PER_TARGET > limit:
        return None
    indices = np.stack(np.unravel_index(np.flatnonzero(targets), targets.shape))
    tree = point_tree(index_points(indices, spacing), _LEAF)
    if voxels.size * (_TREE_SECONDS_PER_QUERY + tree.n * _TREE_SECONDS_PER_VISIT) <= limit:
        return tree
    places = np.stack(np.unravel_index(voxels[:: ceil(voxels.size / _SAMPLE)], targets.shape))
    seconds = tree_seconds(tree, index_points(places, spacing), voxels.size, max(spacing))
    return None if seconds > limit else tree


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
