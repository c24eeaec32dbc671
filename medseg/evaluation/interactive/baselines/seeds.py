"""Prompts as seeds: voxels that belong to the object, and voxels that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.prompts import Box, Lasso, Point, Prompt, Scribble

BoolArray = NDArray[np.bool_]

UNKNOWN, OBJECT, BACKGROUND = 0, 1, 2

_CLICK = 0.01
"""Radius of a click, as a share of the array's shortest side."""
_CORE = 0.2
"""Share of a box's extent, around its center, that is taken as object."""


@dataclass(eq=False)
class Seeds:
    """Seeds of one object.

    Attributes:
        values: (\\*S) uint8: `UNKNOWN`, `OBJECT` or `BACKGROUND`.
    """

    values: NDArray[np.uint8]

    @classmethod
    def of(cls, prompts: Sequence[Prompt], shape: tuple[int, ...]) -> Seeds:
        """Draw prompts, later ones over earlier ones.

        A click is a ball whose radius is 1% of the shortest side. The outside of a positive box or lasso
        is background and its core is object, unless a negative mark lies in the core. The border of the array
        is background where nothing else marks it.
        """
        seeds = cls(np.zeros(shape, np.uint8))
        closed = [prompt for prompt in prompts if isinstance(prompt, Box | Lasso)]
        for prompt in closed:
            seeds._draw_area(prompt)
        marks = [prompt for prompt in prompts if isinstance(prompt, Point | Scribble)]
        refused = cls(np.zeros(shape, np.uint8))
        for prompt in marks:
            refused._draw_mark(prompt)
        for prompt in closed:
            seeds._draw_core(prompt, refused.background)
        for prompt in marks:
            seeds._draw_mark(prompt)
        seeds._draw_border()
        return seeds

    @property
    def object(self) -> BoolArray:
        """(\\*S), voxels of the object."""
        return self.values == OBJECT

    @property
    def background(self) -> BoolArray:
        """(\\*S), voxels that do not belong to the object."""
        return self.values == BACKGROUND

    def _draw_mark(self, prompt: Point | Scribble) -> None:
        value = OBJECT if prompt.positive else BACKGROUND
        voxels = self._ball(prompt) if isinstance(prompt, Point) else np.asarray(prompt.voxels, np.intp)
        inside = ((voxels >= 0) & (voxels < self.values.shape)).all(axis=1)
        self.values[tuple(voxels[inside].T)] = value

    def _ball(self, point: Point) -> NDArray[np.intp]:
        radius = round(_CLICK * min(self.values.shape))
        steps = np.indices((2 * radius + 1,) * self.values.ndim).reshape(self.values.ndim, -1).T - radius
        return (np.rint(point.position) + steps[(steps**2).sum(axis=1) <= radius**2]).astype(np.intp)

    def _draw_area(self, prompt: Box | Lasso) -> None:
        """Mark the outside of a positive area as background, or the inside of a negative one."""
        area, plane = self._area(prompt)
        target = self.values[plane]
        target[~area if prompt.positive else area] = BACKGROUND

    def _draw_core(self, prompt: Box | Lasso, refused: BoolArray) -> None:
        if not prompt.positive:
            return
        area, plane = self._area(prompt)
        places = np.argwhere(area)
        if not len(places):
            return
        lower, upper = places.min(axis=0), places.max(axis=0) + 1
        middle, half = (lower + upper - 1) / 2, np.maximum(_CORE * (upper - lower) / 2, 0.5)
        core = places[(np.abs(places - middle) <= half).all(axis=1)]
        if not len(core):
            core = places[[np.abs(places - middle).sum(axis=1).argmin()]]
        if not refused[plane][tuple(core.T)].any():
            self.values[plane][tuple(core.T)] = OBJECT

    def _area(self, prompt: Box | Lasso) -> tuple[BoolArray, tuple[slice | int, ...]]:
        """Return an area and the part of the array that it is about: everything, or one slice."""
        shape = self.values.shape
        if isinstance(prompt, Box):
            extents = [high - low for low, high in zip(prompt.lower, prompt.upper, strict=True)]
            axis = extents.index(1) if len(shape) == 3 and extents.count(1) == 1 else None
            plane = _plane(len(shape), axis, prompt.lower[axis] if axis is not None else None)
            sides = zip(prompt.lower, prompt.upper, strict=True)
            area = np.zeros(shape, bool)
            area[tuple(slice(max(a, 0), b) for a, b in sides)] = True
            return area[plane], plane
        plane = _plane(len(shape), prompt.axis, prompt.index)
        draw: Any = import_module("skimage.draw")
        return draw.polygon2mask(self.values[plane].shape, prompt.vertices), plane

    def _draw_border(self) -> None:
        inner = tuple(slice(1, -1) if size > 2 else slice(None) for size in self.values.shape)
        border = np.ones(self.values.shape, bool)
        border[inner] = False
        self.values[border & (self.values == UNKNOWN)] = BACKGROUND


def _plane(ndim: int, axis: int | None, index: int | None) -> tuple[slice | int, ...]:
    return tuple(index if a == axis and index is not None else slice(None) for a in range(ndim))
