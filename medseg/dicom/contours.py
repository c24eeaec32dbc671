"""The outlines of masks, and holes joined to them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import find_contours

from medseg.geometry import Array


def outlines(mask: Array) -> list[Array]:
    """Closed polygons (n, 2) of (row, column) around the parts of a mask (rows, columns), in pixels.

    They run halfway between the centers of pixels inside and outside (marching squares, Lorensen and Cline
    1987), so that the centers a polygon encloses are the mask's. Pixels that touch by a corner only are parts
    of their own. A part's holes are joined to it by keyholes: a channel of no width (PS3.3, C.8.8.6.3). The
    last vertex is not the first again.
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
    """A polygon without the vertices that lie on a straight line between their neighbors."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]


def count_parts(mask: Array) -> int:
    """How many outlines a mask (rows, columns) has."""
    _, count = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    return int(count)


def _with_keyholes(outer: Array, holes: list[Array]) -> Array:
    """One polygon: from the outer vertex that is nearest to a hole, to the hole, around it, and back.

    Channels that cross another hole enclose nothing there, either: they are gone through both ways.
    """
    if not holes:
        return outer
    tree = KDTree(outer)
    detours: dict[int, list[Array]] = {}
    for hole in holes:
        distances, nearest = tree.query(hole)
        there = int(np.argmin(distances))
        here = int(np.asarray(nearest)[there])
        around = np.roll(hole, -there, axis=0)
        detours.setdefault(here, []).extend((around, around[:1], outer[here : here + 1]))
    pieces: list[Array] = []
    done = 0
    for here in sorted(detours):
        pieces += [outer[done : here + 1], *detours[here]]
        done = here + 1
    return np.concatenate([*pieces, outer[done:]])
