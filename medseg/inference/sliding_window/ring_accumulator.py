"""Accumulator for whole planes: a ring that is as deep as one window."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from medseg.inference.sliding_window.accumulator import (
    AccumulatorOptions,
    WeightedSums,
    crop_padding,
    ring_slices,
)
from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.inference.sliding_window.window_plan import Starts, WindowPlan


class RingAccumulator:
    """Sums of as many planes as a window is deep; plane p of the padded image lies at p modulo that depth."""

    def __init__(self, plan: WindowPlan, options: AccumulatorOptions) -> None:
        self.plan = plan
        self.options = options
        self._sums: WeightedSums | None = None
        self._first = 0  # first plane in the ring

    def window_order(self) -> Iterator[Starts]:
        return iter(self.plan)

    def add(self, logits: torch.Tensor, start: Starts) -> Iterator[OutputChunk]:
        axis, depth = self.plan.axis, self.plan.size[self.plan.axis]
        if self._sums is None:
            shape = list(self.plan.padded)
            shape[axis] = depth
            self._sums = WeightedSums.zeros(logits, shape, self.options)
        yield from self._finish_before(start[axis], self._sums)
        box = [slice(first, first + size) for first, size in zip(start, self.plan.size, strict=True)]
        for part, place in ring_slices(start[axis], start[axis] + depth, depth):
            box[axis] = place
            self._sums.add(box, logits, self.options.weight, axis, part)

    def finish(self) -> Iterator[OutputChunk]:
        if self._sums is not None:
            yield from self._finish_before(self.plan.padded[self.plan.axis], self._sums)

    def _finish_before(self, end: int, sums: WeightedSums) -> Iterator[OutputChunk]:
        """Yield the planes before ``end`` and clear their places in the ring."""
        axis, depth = self.plan.axis, self.plan.size[self.plan.axis]
        while self._first < end:
            start = self._first
            stop = min(end, start + depth - start % depth)
            finished = sums.narrow(axis, start % depth, stop - start)
            yield from crop_padding(self.plan, {axis: start}, finished)
            finished.zero_()
            self._first = stop
