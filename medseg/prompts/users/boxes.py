"""A user who draws a box first and clicks afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medseg.prompts.prompts import Box, Point
from medseg.prompts.users.clicks import ClickUser
from medseg.prompts.users.planes import draw_plane
from medseg.prompts.users.regions import bounding_box, largest_component
from medseg.prompts.users.user import BoolArray, check_object


@dataclass(frozen=True)
class BoxUser:
    """Draws a box around the object, then corrects with clicks.

    Args:
        jitter: standard deviation of each side, as a share of the box's extent along that axis.
        one_slice: whether the box of a volume lies in one slice, around the largest part of the object there,
            as viewers draw it.
        clicks: the user who corrects.
    """

    jitter: float = 0.04
    one_slice: bool = False
    clicks: ClickUser = field(default_factory=ClickUser)

    @property
    def name(self) -> str:
        return "slice-box" if self.one_slice else "box"

    def first(self, reference: BoolArray, rng: np.random.Generator) -> Box:
        check_object(reference)
        if reference.ndim == 3 and self.one_slice:
            region = largest_component(reference)
            plane = draw_plane(region, rng)
            lower, upper = self._box(reference[plane.slices(reference.ndim)], rng)
            return Box(plane.insert(lower, plane.index), plane.insert(upper, plane.index + 1))
        return Box(*self._box(reference, rng))

    def next(self, reference: BoolArray, mask: BoolArray, rng: np.random.Generator) -> Point | None:
        return self.clicks.next(reference, mask, rng)

    def _box(self, mask: BoolArray, rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Draw the lower and upper corner; at least one voxel of the object's box stays inside on each axis."""
        lower, upper = [], []
        box = bounding_box(mask)
        assert box is not None
        for side, size in zip(box, mask.shape, strict=True):
            start, stop = side.start, side.stop
            shifts = rng.normal(0, self.jitter, 2) * (stop - start)
            first = int(np.clip(round(start + shifts[0]), 0, stop - 1))
            lower.append(first)
            upper.append(int(np.clip(round(stop + shifts[1]), max(first, start) + 1, size)))
        return tuple(lower), tuple(upper)
