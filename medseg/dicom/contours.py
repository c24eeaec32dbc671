"""Outlines of masks as polygons, with holes joined to them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import find_contours

from medseg.geometry import Array


def outlines(mask: Array) -> list[Array]:
    """Compute the closed polygons around the connected parts of a mask.

    The polygons run halfway between the centers of pixels inside and outside (marching squares, Lorensen and
    Cline 1987), so that a polygon encloses exactly the pixel centers of its part. Pixels that touch only at a
    corner belong to different parts. The holes of a part are joined to its outline by keyholes, channels of
    zero width (DICOM PS3.3, C.8.8.6.3).

    Args:
        mask: (rows, columns) bool.

    Returns:
        One polygon (n, 2) per part, (row, column) in pixels; the first vertex is not repeated at the end.

    Example:
        >>> mask = np.zeros((3, 3), bool)
        >>> mask[1, 1] = True
        >>> (polygon,) = outlines(mask)
        >>> sorted(polygon.tolist())
        [[0.5, 1.0], [1.0, 0.5], [1.0, 1.5], [1.5, 1.0]]
    """
    parts, _ = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    polygons: list[Array] = []
    for part, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1):
        padded = np.pad(parts[rows, columns] == part, 1).astype(np.float32)
        rings = [_corners(ring[:-1]) for ring in find_contours(padded, 0.5)]
        rings = [ring + np.array([rows.start - 1, columns.start - 1]) for ring in rings]
        rings.sort(key=lambda ring: -abs(_area(ring)))
        polygons.append(_with_keyholes(rings[0], rings[1:]))
    return polygons


def _area(ring: Array) -> float:
    """The signed area of a polygon (n, 2)."""
    following = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0]).sum() / 2)


def _corners(ring: Array) -> Array:
    """Remove the vertices of a polygon that lie on a straight line between their neighbors."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]


def count_parts(mask: Array) -> int:
    """Count the outlines of a mask (rows, columns)."""
    _, count = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    return int(count)


def _with_keyholes(outer: Array, holes: list[Array]) -> Array:
    """Join an outline and its holes into one polygon.

    From the outer vertex nearest to a hole, the polygon runs to the hole, around it and back. A channel may
    cross another hole: it is traversed in both directions and encloses no area.
    """
    if not holes:
        return outer
    tree = KDTree(outer)
    detours: dict[int, list[Array]] = {}
    for hole in holes:
        distances, nearest = tree.query(hole)
        hole_vertex = int(np.argmin(distances))
        outer_vertex = int(np.asarray(nearest)[hole_vertex])
        ring = np.roll(hole, -hole_vertex, axis=0)
        detours.setdefault(outer_vertex, []).extend((ring, ring[:1], outer[outer_vertex : outer_vertex + 1]))
    pieces: list[Array] = []
    start = 0
    for vertex in sorted(detours):
        pieces += [outer[start : vertex + 1], *detours[vertex]]
        start = vertex + 1
    return np.concatenate([*pieces, outer[start:]])
