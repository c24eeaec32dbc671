"""A sliding window that never holds more of an image's scores than one window is deep.

Windows go by in the order of one axis. What they add up lies in a ring of planes across that axis; a plane
that no later window touches leaves the ring, and its place is used again. So the memory is classes × window
depth × height × width, whatever the length of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from medseg.inference.windows import Starts, WindowPlan

Predict = Callable[[torch.Tensor], torch.Tensor]
"""Windows (B, C, *window) to scores (B, K, *window)."""

Read = Callable[[tuple[slice, ...]], torch.Tensor]
"""A box within an image to its voxels (C, *box)."""

Keep = Callable[[tuple[slice, ...]], bool]
"""Whether a window, by its box within the image, goes through the network."""


@dataclass(frozen=True)
class Planes:
    """Finished planes of an image, in the order of the axis they are streamed along.

    Attributes:
        start: index of the first of them along ``axis`` of the image.
        axis: the spatial axis.
        sums: (K, *S) weighted sums of scores, S the image's shape but for the planes' number along
            ``axis``. They lie in the ring: use or copy them before the next planes are asked for.
        weights: (*S) sums of weights; 0 where every window was left out.
    """

    start: int
    axis: int
    sums: torch.Tensor
    weights: torch.Tensor

    @property
    def means(self) -> torch.Tensor:
        """(K, *S) mean scores; 0 where every window was left out."""
        return self.sums / self.weights.clamp(min=torch.finfo(torch.float32).tiny)


def stream_windows(
    read: Read,
    plan: WindowPlan,
    predict: Predict,
    weight: torch.Tensor,
    *,
    batch_size: int = 1,
    keep: Keep | None = None,
    sums: torch.dtype = torch.float32,
) -> Iterator[Planes]:
    """Finished planes of an image, its windows going through ``predict`` in batches.

    ``weight`` (*window) float32 lies on the device where scores are summed. Planes before the first kept
    window come with it, those after the last one at the end: every plane of the image comes once.
    ``sums`` is the type that scores and weights are summed in.

    Raises: ValueError if scores have another shape than their windows.
    """
    ring: _Ring | None = None
    for places, windows in _batches(read, plan, batch_size, keep):
        scores = predict(windows)
        if scores.shape[2:] != windows.shape[2:]:
            raise ValueError(f"scores of {tuple(scores.shape[2:])} for windows of {tuple(windows.shape[2:])}")
        if ring is None:
            ring = _Ring.like(scores[0], plan, weight, sums)
        for index, place in enumerate(places):
            yield from ring.finish(place[plan.axis])
            ring.add(scores[index], place)
        del scores, windows  # not kept while the next ones are computed
    if ring is None:  # every window was left out; how many classes there are is not known
        return
    yield from ring.finish(plan.padded[plan.axis])


def _batches(
    read: Read, plan: WindowPlan, batch_size: int, keep: Keep | None
) -> Iterator[tuple[list[Starts], torch.Tensor]]:
    places: list[Starts] = []
    windows: list[torch.Tensor] = []
    for place in plan:
        box, missing = _within(plan, place)
        if keep is not None and not keep(box):
            continue
        voxels = read(box)
        places.append(place)
        windows.append(F.pad(voxels, missing) if any(missing) else voxels)
        if len(places) == batch_size:
            yield places, _batch(windows)
            places, windows = [], []
    if places:
        yield places, _batch(windows)


def _batch(windows: list[torch.Tensor]) -> torch.Tensor:
    return windows[0][None] if len(windows) == 1 else torch.stack(windows)


def _within(plan: WindowPlan, place: Starts) -> tuple[tuple[slice, ...], list[int]]:
    """The part of a window that lies within the image, and the voxels missing around it, last axis first."""
    box: list[slice] = []
    missing: list[int] = []
    for start, window, length, (before, _) in zip(place, plan.size, plan.shape, plan.padding, strict=True):
        first, last = max(0, start - before), min(length, start - before + window)
        box.append(slice(first, last))
        missing = [before, window - before - (last - first), *missing] if length < window else [0, 0, *missing]
    return tuple(box), missing


@dataclass
class _Ring:
    """Sums of planes [first, first + depth) of the padded image; plane p lies at p modulo depth."""

    plan: WindowPlan
    weight: torch.Tensor
    sums: torch.Tensor
    weights: torch.Tensor
    first: int = field(default=0)

    @classmethod
    def like(cls, scores: torch.Tensor, plan: WindowPlan, weight: torch.Tensor, dtype: torch.dtype) -> _Ring:
        """An empty ring for scores (K, *window), classes last in memory if the scores have them so."""
        shape = list(plan.padded)
        shape[plan.axis] = plan.size[plan.axis]
        device = weight.device
        classes = len(scores)
        if classes > 1 and scores.stride(0) == 1:
            sums = torch.zeros(*shape, classes, device=device, dtype=dtype).movedim(-1, 0)
        else:
            sums = torch.zeros(classes, *shape, device=device, dtype=dtype)
        return cls(plan, weight, sums, torch.zeros(*shape, device=device, dtype=dtype))

    def add(self, scores: torch.Tensor, place: Starts) -> None:
        """Add a window's scores (K, *window), weighted."""
        axis, depth = self.plan.axis, self.plan.size[self.plan.axis]
        scores = scores.to(self.weight.device)
        box = [slice(start, start + size) for start, size in zip(place, self.plan.size, strict=True)]
        for own, there in _wrapped(place[axis], place[axis] + depth, depth):
            box[axis] = there
            weight = self.weight.narrow(axis, own.start, own.stop - own.start)
            part = scores.narrow(1 + axis, own.start, own.stop - own.start)
            sums = self.sums[(slice(None), *box)]
            if sums.dtype == torch.float32:
                sums.addcmul_(part.float(), weight)
            else:
                sums += part.float() * weight
            self.weights[tuple(box)] += weight

    def finish(self, until: int) -> Iterator[Planes]:
        """Give away the planes before ``until`` and make their places empty."""
        axis, depth = self.plan.axis, self.plan.size[self.plan.axis]
        while self.first < until:
            start = self.first
            stop = min(until, start + depth - start % depth)
            own = [slice(None)] * len(self.plan.size)
            own[axis] = slice(start % depth, start % depth + stop - start)
            sums, weights = self.sums[(slice(None), *own)], self.weights[tuple(own)]
            yield from self._cropped(start, sums, weights)
            sums.zero_()
            weights.zero_()
            self.first = stop

    def _cropped(self, start: int, sums: torch.Tensor, weights: torch.Tensor) -> Iterator[Planes]:
        """Planes without the padding; none if they are nothing but padding."""
        plan, axis = self.plan, self.plan.axis
        before = plan.padding[axis][0]
        first, last = max(start, before), min(start + weights.shape[axis], before + plan.shape[axis])
        if first >= last:
            return
        for a, (low, _) in enumerate(plan.padding):
            begin, length = (first - start, last - first) if a == axis else (low, plan.shape[a])
            sums, weights = sums.narrow(1 + a, begin, length), weights.narrow(a, begin, length)
        yield Planes(first - before, axis, sums, weights)


def _wrapped(start: int, stop: int, depth: int) -> Sequence[tuple[slice, slice]]:
    """[start, stop) of at most ``depth`` planes as (slice of them, slice of the ring), in one or two pieces."""
    turn = math.ceil((start + 1) / depth) * depth  # where the ring begins anew
    pieces = [(start, min(stop, turn)), (turn, stop)]
    return [(slice(a - start, b - start), slice(a % depth, a % depth + b - a)) for a, b in pieces if a < b]
