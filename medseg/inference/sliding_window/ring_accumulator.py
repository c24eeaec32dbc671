"""Weighted sums of windows for as many planes as one is deep, and the planes that are finished."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from medseg.inference.sliding_window.window_plan import Starts, WindowPlan


@dataclass(frozen=True)
class Planes:
    """Finished planes of an image, in the order of the axis they are streamed along.

    Attributes:
        start: index of the first of them along ``axis`` of the image.
        axis: the spatial axis.
        sums: (K, *S) weighted sums of scores, S the image's shape but for the planes' number along
            ``axis``. They lie in the ring: use or copy them before the next planes are asked for.
        weights: (*S) sums of weights; 0 where every window was left out.
        lines: of a strip of planes, the second axis on which it is a part of the image, and where it begins.
    """

    start: int
    axis: int
    sums: torch.Tensor
    weights: torch.Tensor
    lines: tuple[int, int] | None = None

    @property
    def means(self) -> torch.Tensor:
        """(K, *S) mean scores; 0 where every window was left out."""
        return self.sums / self.weights.clamp(min=torch.finfo(torch.float32).tiny)


def or_unseen(
    planes: Iterator[Planes], classes: int, shape: tuple[int, ...], axis: int, *, most: int = 64 * 2**20
) -> Iterator[Planes]:
    """The same planes; of an image (*S) of which there are none, planes of ``classes`` scores that no window
    touched, as many at a time as hold ``most`` bytes.
    """
    empty = True
    for one in planes:
        empty = False
        yield one
    if not empty:
        return
    plane = [1 if a == axis else length for a, length in enumerate(shape)]
    step = max(1, most // (4 * classes * math.prod(plane)))
    for start in range(0, shape[axis], step):
        plane[axis] = min(step, shape[axis] - start)
        yield Planes(start, axis, torch.zeros(classes, *plane), torch.zeros(*plane))


@dataclass
class Ring:
    """Sums of planes [first, first + depth) of the padded image; plane p lies at p modulo depth."""

    plan: WindowPlan
    weight: torch.Tensor
    sums: torch.Tensor
    weights: torch.Tensor
    first: int = field(default=0)

    @classmethod
    def like(cls, scores: torch.Tensor, plan: WindowPlan, weight: torch.Tensor, dtype: torch.dtype) -> Ring:
        """An empty ring for scores (K, *window)."""
        shape = list(plan.padded)
        shape[plan.axis] = plan.size[plan.axis]
        sums, weights = empty_sums(scores, shape, weight.device, dtype)
        return cls(plan, weight, sums, weights)

    def add(self, scores: torch.Tensor, place: Starts) -> None:
        """Add a window's scores (K, *window), weighted."""
        axis, depth = self.plan.axis, self.plan.size[self.plan.axis]
        box = [slice(start, start + size) for start, size in zip(place, self.plan.size, strict=True)]
        for own, there in wrapped(place[axis], place[axis] + depth, depth):
            box[axis] = there
            add_weighted(self.sums, self.weights, box, scores, self.weight, axis, own)

    def until(self, place: Starts) -> Iterator[Planes]:
        """Give away the planes that windows from ``place`` on do not touch, and make their places empty."""
        return self._finish(place[self.plan.axis])

    def rest(self) -> Iterator[Planes]:
        """Give away what is left."""
        return self._finish(self.plan.padded[self.plan.axis])

    def _finish(self, until: int) -> Iterator[Planes]:
        axis, depth = self.plan.axis, self.plan.size[self.plan.axis]
        while self.first < until:
            start = self.first
            stop = min(until, start + depth - start % depth)
            sums = self.sums.narrow(1 + axis, start % depth, stop - start)
            weights = self.weights.narrow(axis, start % depth, stop - start)
            yield from cropped(self.plan, {axis: start}, sums, weights)
            sums.zero_()
            weights.zero_()
            self.first = stop


def empty_sums(
    scores: torch.Tensor, shape: Sequence[int], device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Zeros (K, *shape) for scores (K, *window), classes last in memory if theirs are; (*shape) for weights."""
    classes = len(scores)
    if classes > 1 and scores.stride(0) == 1:
        sums = torch.zeros(*shape, classes, device=device, dtype=dtype).movedim(-1, 0)
    else:
        sums = torch.zeros(classes, *shape, device=device, dtype=dtype)
    return sums, torch.zeros(*shape, device=device, dtype=dtype)


def add_weighted(
    sums: torch.Tensor,
    weights: torch.Tensor,
    box: Sequence[slice],
    scores: torch.Tensor,
    weight: torch.Tensor,
    axis: int,
    own: slice,
) -> None:
    """Add the part ``own`` along ``axis`` of a window's scores (K, *window), weighted, in a box of the sums."""
    weight = weight.narrow(axis, own.start, own.stop - own.start)
    part = scores.to(weight.device).narrow(1 + axis, own.start, own.stop - own.start).float()
    place = sums[(slice(None), *box)]
    if place.dtype == torch.float32:
        place.addcmul_(part, weight)
    else:
        place += part * weight
    weights[tuple(box)] += weight


def cropped(
    plan: WindowPlan, starts: Mapping[int, int], sums: torch.Tensor, weights: torch.Tensor
) -> Iterator[Planes]:
    """Sums without the padding, as planes; none if they are nothing but padding.

    ``starts`` is where they begin along those axes of the padded image on which they are a part of it.
    """
    first = dict(starts)
    for axis, (before, _) in enumerate(plan.padding):
        start = starts.get(axis, 0)
        begin = max(start, before)
        stop = min(start + weights.shape[axis], before + plan.shape[axis])
        if begin >= stop:
            return
        if axis in first:
            first[axis] = begin - before
        sums = sums.narrow(1 + axis, begin - start, stop - begin)
        weights = weights.narrow(axis, begin - start, stop - begin)
    lines = next(((axis, start) for axis, start in first.items() if axis != plan.axis), None)
    yield Planes(first[plan.axis], plan.axis, sums, weights, lines)


def wrapped(start: int, stop: int, depth: int) -> Sequence[tuple[slice, slice]]:
    """[start, stop) of at most ``depth`` planes as (slice of them, slice of the ring), in one or two pieces."""
    turn = math.ceil((start + 1) / depth) * depth  # where the ring begins anew
    pieces = [(start, min(stop, turn)), (turn, stop)]
    return [(slice(a - start, b - start), slice(a % depth, a % depth + b - a)) for a, b in pieces if a < b]
