"""Center lines of strokes in a slice: along a region, to and fro in it, on its skeleton, along its outline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order
from skimage.measure import find_contours
from skimage.morphology import skeletonize

from medseg.prompts.users.regions import depth
from medseg.prompts.users.user import BoolArray

Line = NDArray[np.float64]
"""(N, 2), vertices of a polyline in pixels."""

_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


def draw_line(region: BoolArray, rng: np.random.Generator) -> Line:
    """Draw a line along a region's longest extent, through the deepest pixel of each part of it.

    It follows bent regions and covers 70 to 100% of the extent.

    Args:
        region: (h, w) bool, connected.
        rng: draws the covered part.
    """
    pixels, depths, along, _ = _principal(region)
    return _bin_extremes(pixels, depths, _bins(along, rng, width=max(2.0, 0.8 * float(depths.max()))))


def draw_zigzag(region: BoolArray, rng: np.random.Generator) -> Line:
    """Draw a line to and fro across a region while it advances along its longest extent.

    The turns stay away from the region's border, by 20 to 50% of the largest depth.
    """
    pixels, depths, along, across = _principal(region)
    deepest = float(depths.max())
    core = depths >= rng.uniform(0.2, 0.5) * deepest
    bins = _bins(along[core], rng, width=max(3.0, rng.uniform(0.5, 1.0) * deepest))
    signs = np.where(bins % 2 == rng.integers(2), 1.0, -1.0)
    return _bin_extremes(pixels[core], signs * across[core], bins)


def draw_skeleton(region: BoolArray, rng: np.random.Generator) -> Line:
    """Draw 50 to 100% of the longest path on a region's skeleton; a line in round regions, which have none."""
    path = _longest_path(np.argwhere(skeletonize(np.pad(region, 1))) - 1)
    if len(path) < 0.5 * max(region.shape):
        return draw_line(region, rng)
    return _part(path, rng.uniform(0.5, 1.0), rng)


def draw_contour(
    region: BoolArray, rng: np.random.Generator, depths: tuple[float, float] = (0.25, 0.6)
) -> Line:
    """Draw 40 to 100% of a line inside a region, parallel to its outline.

    Args:
        region: (h, w) bool.
        rng: draws depth and part.
        depths: smallest and largest depth of the line, as a share of the largest depth.
    """
    distances = np.pad(depth(region).astype(float), 1)
    level = rng.uniform(*depths) * distances.max()
    return _outline_part(distances, level, rng)


def draw_outside(region: BoolArray, distance: float, rng: np.random.Generator) -> Line:
    """Draw 40 to 100% of a line around a region, at a distance in pixels.

    The line can leave the array.
    """
    margin = int(np.ceil(distance)) + 2
    outside = np.asarray(distance_transform_edt(~np.pad(region, margin)))
    return _outline_part(-outside, -distance, rng, pad=margin)


def _outline_part(values: Line, level: float, rng: np.random.Generator, pad: int = 1) -> Line:
    """Return a part of the longest iso-line; the region's own pixels without a line (regions of few pixels)."""
    lines = find_contours(values, level)
    if not lines:
        return np.argwhere(values == values.max())[:1].astype(float) - pad
    line = max(lines, key=len) - pad
    closed = bool((line[0] == line[-1]).all())
    if closed:
        line = np.roll(line[:-1], int(rng.integers(len(line) - 1)), axis=0)
    return _part(line, rng.uniform(0.4, 1.0), rng)


def _part(line: Line, share: float, rng: np.random.Generator) -> Line:
    """Return a connected part of a line with this share of its vertices."""
    count = max(1, round(share * len(line)))
    start = int(rng.integers(len(line) - count + 1))
    return line[start : start + count].astype(float)


def _principal(region: BoolArray) -> tuple[NDArray[np.intp], Line, Line, Line]:
    """Return a region's pixels, their depths, and their coordinates along and across its longest extent."""
    pixels = np.argwhere(region)
    centered = pixels - pixels.mean(axis=0)
    axes = np.linalg.eigh(centered.T @ centered)[1]
    return pixels, depth(region)[region].astype(float), centered @ axes[:, 1], centered @ axes[:, 0]


def _bins(along: Line, rng: np.random.Generator, width: float) -> NDArray[np.intp]:
    """Divide 70 to 100% of an extent into parts of about a width; -1 marks what is not covered."""
    low, high = float(along.min()), float(along.max())
    extent = (high - low) * rng.uniform(0.7, 1.0)
    start = low + rng.uniform(0, high - low - extent)
    count = max(1, round(extent / width))
    bins = np.floor((along - start) / max(extent, 1e-6) * count).astype(np.intp)
    covered = (along >= start) & (along <= start + extent)
    return np.where(covered | ~covered.any(), np.clip(bins, 0, count - 1), -1)


def _bin_extremes(pixels: NDArray[np.intp], values: Line, bins: NDArray[np.intp]) -> Line:
    """Return the pixel with the largest value of each part, in the order of the parts."""
    order = np.lexsort((values, bins))
    order = order[bins[order] >= 0]
    last = np.append(np.diff(bins[order]) > 0, True)
    return pixels[order[last]].astype(float)


def _longest_path(pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the path of most pixels between two ends of a skeleton, by two breadth-first searches."""
    if len(pixels) < 2:
        return pixels
    index = np.full(pixels.max(axis=0) + 3, -1)
    index[tuple(pixels.T + 1)] = np.arange(len(pixels))
    starts, stops = _edges(index, pixels + 1)
    graph = coo_array((np.ones(len(starts), np.int8), (starts, stops)), (len(pixels),) * 2).tocsr()
    end = breadth_first_order(graph, 0, directed=False)[0][-1]
    order, before = breadth_first_order(graph, end, directed=False)
    path = [int(order[-1])]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    return pixels[path]


def _edges(index: NDArray[np.intp], pixels: NDArray[np.intp]) -> Sequence[NDArray[np.intp]]:
    """Return the pairs of neighboring skeleton pixels, two arrays of numbers."""
    own = index[tuple(pixels.T)]
    pairs = [(own, index[tuple((pixels + step).T)]) for step in _STEPS]
    return [np.concatenate([pair[side][pair[1] >= 0] for pair in pairs]) for side in (0, 1)]
