"""The slice of a volume in which a user draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medseg.prompts.users.regions import Region
from medseg.prompts.users.user import BoolArray

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Plane:
    """A slice of a volume, or a picture as a whole.

    Attributes:
        axis: axis perpendicular to the slice; None for a picture.
        index: slice of the whole array along ``axis``.
    """

    axis: int | None
    index: int

    def slices(self, ndim: int) -> tuple[slice | int, ...]:
        """Return the index that cuts the slice out of an array of the whole grid."""
        return tuple(self.index if axis == self.axis else slice(None) for axis in range(ndim))

    def insert(self, position: tuple[_Number, ...], value: _Number) -> tuple[_Number, ...]:
        """Insert the coordinate along the perpendicular axis into a position in the slice."""
        return position if self.axis is None else (*position[: self.axis], value, *position[self.axis :])

    def lift(self, pixels: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return voxels, (N, D), of pixels of the slice, (N, 2)."""
        return pixels if self.axis is None else np.insert(pixels, self.axis, self.index, axis=1)


def draw_plane(region: Region, rng: np.random.Generator, *, usual_axis: float = 0.8) -> Plane:
    """Choose the slice of a volume in which a user marks a region.

    With probability ``usual_axis`` it is perpendicular to the axis whose slices show most of the region, which
    is the scanner's plane if slices are thick; else to any axis. All slices with at least 80% of the largest
    area are equally likely.
    """
    if region.mask.ndim == 2:
        return Plane(None, 0)
    areas = [region.mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    largest = [int(area.max()) for area in areas]
    axis = int(np.argmax(largest))
    if rng.random() >= usual_axis:
        axis = int(rng.integers(3))
    likely = np.flatnonzero(areas[axis] >= 0.8 * largest[axis])
    return Plane(axis, int(likely[rng.integers(likely.size)]) + region.corner[axis])


def cut_region(region: Region, plane: Plane) -> tuple[BoolArray, NDArray[np.intp]]:
    """Return a region's part in a slice, (h, w) bool, and its first pixel in the whole slice, (2,)."""
    if plane.axis is None:
        return region.mask, np.array(region.corner)
    inside = np.take(region.mask, plane.index - region.corner[plane.axis], axis=plane.axis)
    return inside, np.delete(np.array(region.corner), plane.axis)
