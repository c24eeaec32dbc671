"""Contours of label maps as polygons with holes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

Array = NDArray[Any]


@dataclass(frozen=True)
class Polygon:
    """A connected region: one outer ring and the rings of its holes.

    A ring is (N, 2) of x (column) and y (row), closed: its last point equals its first. Coordinates are those
    of QuPath and SVG: pixel (row 0, column 0) covers 0 to 1, so its center is at 0.5.

    Attributes:
        outer: ring around the region, counterclockwise in a frame whose y axis points up (RFC 7946).
        holes: rings around its holes, clockwise.
    """

    outer: Array
    holes: tuple[Array, ...] = ()

    @property
    def rings(self) -> tuple[Array, ...]:
        """All rings, the outer one first."""
        return (self.outer, *self.holes)


def label_polygons(mask: Array) -> list[Polygon]:
    """Return the polygons of a mask, one per region of pixels that share an edge.

    A ring runs half-way between the pixels inside and outside and cuts corners, so that every pixel center
    inside a polygon belongs to the mask, and no other.

    Args:
        mask: (H, W) bool.

    Example:
        >>> [polygon] = label_polygons(np.array([[False, True]]))
        >>> polygon.outer.tolist()
        [[1.5, 0.0], [2.0, 0.5], [1.5, 1.0], [1.0, 0.5], [1.5, 0.0]]
    """
    regions: Any
    regions, _ = ndimage.label(mask)  # type: ignore[misc]
    return [_polygon(regions[box] == index, box) for index, box in _boxes(regions)]


def _boxes(regions: Array) -> Iterator[tuple[int, tuple[slice, slice]]]:
    for index, box in enumerate(ndimage.find_objects(regions), 1):
        if box is not None:
            yield index, box


def _polygon(region: Array, box: tuple[slice, slice]) -> Polygon:
    """Return the polygon of one connected region (h, w) that lies in ``box`` of the picture."""
    rings = find_contours(np.pad(region, 1).astype(np.float32), 0.5, fully_connected="low")
    offset = np.array((box[1].start, box[0].start)) - 0.5  # the padding is one pixel, a center half a pixel
    turned = [_start_at_first(ring[:, ::-1] + offset) for ring in rings]
    turned.sort(key=lambda ring: -abs(signed_area(ring)))
    outer, *holes = turned
    return Polygon(_oriented(outer, 1), tuple(_oriented(hole, -1) for hole in holes))


def _start_at_first(ring: Array) -> Array:
    """Rotate a closed ring so that it starts at its topmost, then leftmost point."""
    body = ring[:-1]
    first = int(np.lexsort((body[:, 0], body[:, 1]))[0])
    body = np.roll(body, -first, axis=0)
    return np.concatenate([body, body[:1]])


def signed_area(ring: Array) -> float:
    """Area of a closed ring by the shoelace formula; positive if it runs counterclockwise with y up."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def _oriented(ring: Array, sign: int) -> Array:
    return ring if np.sign(signed_area(ring)) == sign else ring[::-1].copy()


def simplify_ring(ring: Array) -> Array:
    """Leave out points on straight lines of a closed ring; its shape is unchanged."""
    body = ring[:-1]
    before, after = body - np.roll(body, 1, axis=0), np.roll(body, -1, axis=0) - body
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    kept = body[turns] if turns.sum() >= 3 else body
    return np.concatenate([kept, kept[:1]])
