"""A user who scribbles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.errors import DataError
from medseg.prompts.prompts import Scribble
from medseg.prompts.users.brush import add_wobble, paint, resample
from medseg.prompts.users.planes import cut_region, draw_plane
from medseg.prompts.users.regions import bounding_box, depth, largest_component, largest_error
from medseg.prompts.users.strokes import (
    Line,
    draw_contour,
    draw_line,
    draw_outside,
    draw_skeleton,
    draw_zigzag,
)
from medseg.prompts.users.user import BoolArray, check_object

ScribbleHabit = Literal["lines", "zigzags", "skeletons", "contours"]

_STROKES: dict[ScribbleHabit, Callable[[BoolArray, np.random.Generator], Line]] = {
    "lines": draw_line,
    "zigzags": draw_zigzag,
    "skeletons": draw_skeleton,
    "contours": draw_contour,
}
_LARGEST_PIXELS = 1 << 13
"""Strokes of larger regions are planned on every second, third … pixel: 10 ms for a picture of 256²."""


@dataclass(frozen=True)
class _Brush:
    """A round brush on a slice of a shape; its radius is in pixels."""

    shape: tuple[int, ...]
    radius: float

    def draw_count(self, part: BoolArray, rng: np.random.Generator) -> int:
        """Draw how many strokes a person paints into one part: up to 3 where it is wide for the brush."""
        coarse, step = _coarse(part)
        width = float(depth(coarse).max()) * step / (5 * self.radius)
        return int(rng.integers(1, 2 + min(2, round(width))))


@dataclass(frozen=True)
class ScribbleUser:
    """Paints strokes into the largest error of the mask; in volumes in one slice.

    Width, length, distance from the border and share inside the object are close to those of the people of
    MedScribble (Wong et al. 2024, arXiv:2312.07381); see docs/how-to/evaluate-prompts.md.

    Args:
        habit: what the strokes follow: a line along the longest extent, a zigzag, the skeleton, the contour.
        wobble: standard deviation of the hand, in pixels.
        radius: smallest and largest radius of the brush in pixels; the smallest is used in thin regions.
        parts: most parts of the object in which `first` paints; parts below a tenth of the largest are left
            out.
    """

    habit: ScribbleHabit = "lines"
    wobble: float = 0.7
    radius: tuple[float, float] = (1.5, 2.3)
    parts: int = 8

    @property
    def name(self) -> str:
        return self.habit

    def first(self, reference: BoolArray, rng: np.random.Generator) -> Scribble:
        region = largest_component(reference)
        plane = draw_plane(region, rng)
        shown = reference[plane.slices(reference.ndim)]
        brush = _Brush(shown.shape, self._draw_radius(rng))
        pixels = [
            self._stroke(part, corner, brush, rng)
            for part, corner in _parts(shown, int(rng.integers(1, self.parts + 1)))
            for _ in range(brush.draw_count(part, rng))
        ]
        return Scribble(plane.lift(np.unique(np.concatenate(pixels), axis=0)), True)

    def next(self, reference: BoolArray, mask: BoolArray, rng: np.random.Generator) -> Scribble | None:
        region = largest_error(reference, mask)
        if region is None:
            return None
        plane = draw_plane(region, rng)
        inside, corner = cut_region(region, plane)
        part, start = next(_parts(inside, 1))
        brush = _Brush(reference[plane.slices(reference.ndim)].shape, self._draw_radius(rng))
        pixels = self._stroke(part, corner + start, brush, rng)
        return Scribble(plane.lift(pixels), region.positive)

    def background(self, reference: BoolArray, rng: np.random.Generator) -> Scribble:
        """Return a scribble around the object, which people draw beside the one on the object.

        One or two strokes follow the outline of the largest part in one slice at 4 to 50 pixels, the smaller
        the likelier.

        Raises:
            DataError: if the object has no voxel, or fills its slice.
        """
        check_object(reference)
        plane = draw_plane(largest_component(reference), rng)
        shown = reference[plane.slices(reference.ndim)]
        if shown.all():
            raise DataError("object of a simulated user: it fills its slice; no background to scribble on")
        distances = np.exp(rng.uniform(np.log(4), np.log(50), int(rng.integers(1, 3))))
        pixels = [self._around(shown, float(distance), rng) for distance in distances]
        return Scribble(plane.lift(np.unique(np.concatenate(pixels), axis=0)), False)

    def _around(self, shown: BoolArray, distance: float, rng: np.random.Generator) -> NDArray[np.intp]:
        part, corner = next(_parts(shown, 1))
        coarse, step = _coarse(part)
        line = draw_outside(coarse, max(1.0, distance / step), rng) * step + (step - 1) / 2
        line = add_wobble(resample(line + corner), self.wobble, rng)
        pixels = paint(line, self._draw_radius(rng), shown.shape)
        pixels = pixels[~shown[tuple(pixels.T)]] if len(pixels) else pixels
        return pixels if len(pixels) else np.argwhere(~shown)[:1]

    def _stroke(
        self, part: BoolArray, corner: NDArray[np.intp], brush: _Brush, rng: np.random.Generator
    ) -> NDArray[np.intp]:
        """Paint one stroke on a connected part; returns pixels of the whole slice, at least one."""
        coarse, step = _coarse(part)
        thin = 2 * float(depth(coarse)[coarse].mean()) * step <= brush.radius + 1
        draw = draw_skeleton if thin else _STROKES[self.habit]
        line = resample(draw(coarse, rng) * step + (step - 1) / 2)
        line = _inside(line, part)
        radius = self.radius[0] if thin else brush.radius
        pixels = paint(add_wobble(line, self.wobble, rng) + corner, radius, brush.shape)
        return pixels if len(pixels) else np.rint(line[:1]).astype(np.intp) + corner

    def _draw_radius(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(*self.radius))


def _parts(shown: BoolArray, count: int) -> Iterator[tuple[BoolArray, NDArray[np.intp]]]:
    """Yield the largest connected parts of a slice, each in its bounding box, with its first pixel."""
    components = cc3d.connected_components(np.ascontiguousarray(shown), connectivity=4)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    for label in np.argsort(sizes)[::-1][:count]:
        if sizes[label] < max(1, 0.1 * sizes.max()):
            return
        part = components == label
        box = bounding_box(part)
        assert box is not None
        yield part[box], np.array([side.start for side in box])


def _inside(line: Line, part: BoolArray, shortest: int = 6) -> Line:
    """Return the points of a line that lie in a region, without runs of a few points; at least one point."""
    nearest = np.clip(np.rint(line).astype(np.intp), 0, np.array(part.shape) - 1)
    labeled: Any = ndimage.label(part[tuple(nearest.T)])
    runs: NDArray[np.intp] = labeled[0]
    lengths = np.bincount(runs)
    lengths[0] = 0
    if not lengths.any():
        return np.argwhere(part)[:1].astype(float)
    return line[lengths[runs] >= min(shortest, lengths.max())]


def _coarse(part: BoolArray) -> tuple[BoolArray, int]:
    """Return a region on every ``step``-th pixel (a pixel is set if any of its block is), and the step."""
    step = max(1, int(np.ceil(np.sqrt(part.size / _LARGEST_PIXELS))))
    if step == 1:
        return part, 1
    padded = np.pad(part, [(0, -size % step) for size in part.shape])
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    return np.asarray(blocks.any(axis=(1, 3))), step
