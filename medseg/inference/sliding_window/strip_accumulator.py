"""Accumulator for strips of planes, for windows that overlap by less than their depth.

Windows of one row (all that begin at one plane) are added line of windows by line of windows. Lines that no
later window of the row touches are finished in the planes before the next row; the sums of the other planes,
which the next row touches too, are carried over. Memory is one strip, one window deep and one window wide, and
the planes that two rows share: with windows of 64³, an overlap of a quarter and images of 256³ half of a
ring's. Where the last row was moved back to the image's end, it is added together with the row before, and
their sums are added in another order than in a ring; all others are equal to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from medseg.inference.sliding_window.accumulator import (
    AccumulatorOptions,
    WeightedSums,
    crop_padding,
    ring_slices,
)
from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.inference.sliding_window.window_plan import Starts, WindowPlan

_WORTHWHILE = 0.8
"""Strips are smaller chunks; they are used if they take less than this share of a ring's memory."""


@dataclass(frozen=True)
class WindowRow:
    """Windows that are added together.

    Attributes:
        starts: where they begin along the streaming axis.
        shared: number of planes that the next row touches, too.
        final: number of planes that no later row touches.
    """

    starts: tuple[int, ...]
    shared: int
    final: int

    @property
    def first(self) -> int:
        """First plane of the row."""
        return self.starts[0]


class StripAccumulator:
    """Sums of the lines [first, first + width) of one row of windows; line l lies at l modulo width.

    Lines lie along a second axis. The planes that two rows share are kept with all their lines: those before
    the first one are for the next row, those after the strip come from the row before.
    """

    def __init__(self, plan: WindowPlan, options: AccumulatorOptions) -> None:
        self.plan = plan
        self.options = options
        self.rows = plan_rows(plan)
        self._line_axis = _line_axis(plan)
        self._strip: WeightedSums | None = None
        self._carried: WeightedSums | None = None
        self._row_index = 0
        self._shared_before = 0  # planes shared with the row before
        self._first = 0  # first line in the strip

    @staticmethod
    def saves_memory(plan: WindowPlan) -> bool:
        """Whether strips take clearly less memory than a ring."""
        if len(plan.shape) < 3 or plan.size[plan.axis] == 1:
            return False
        axis, rows = _line_axis(plan), plan_rows(plan)
        lines = plan.padded[axis]
        strips = _most_shared(rows) * lines + _deepest(rows) * plan.size[axis]
        return strips < _WORTHWHILE * plan.size[plan.axis] * lines

    def window_order(self) -> Iterator[Starts]:
        """Yield the windows row by row, within a row by their lines."""
        axis, second = self.plan.axis, self._line_axis
        others = [a for a in range(len(self.plan.shape)) if a not in (axis, second)]
        for row in self.rows:
            for line, plane, *rest in product(
                self.plan.starts[second], row.starts, *(self.plan.starts[a] for a in others)
            ):
                start = dict(zip((second, axis, *others), (line, plane, *rest), strict=True))
                yield tuple(start[a] for a in range(len(self.plan.shape)))

    def add(self, logits: torch.Tensor, start: Starts) -> Iterator[OutputChunk]:
        strip, carried = self._allocated(logits)
        axis, second = self.plan.axis, self._line_axis
        while self._row.starts[-1] < start[axis]:
            yield from self._finish_before(self.plan.padded[second], strip, carried)
            self._next_row(strip, carried)
        yield from self._finish_before(start[second], strip, carried)
        first, width = start[second], self.plan.size[second]
        box = [slice(begin, begin + size) for begin, size in zip(start, self.plan.size, strict=True)]
        plane = start[axis] - self._row.first
        box[axis] = slice(plane, plane + self.plan.size[axis])
        for part, place in ring_slices(first, first + width, width):
            box[second] = place
            strip.add(box, logits, self.options.weight, second, part)

    def finish(self) -> Iterator[OutputChunk]:
        if self._strip is None or self._carried is None:
            return
        while True:
            yield from self._finish_before(self.plan.padded[self._line_axis], self._strip, self._carried)
            if self._row_index + 1 == len(self.rows):
                return
            self._next_row(self._strip, self._carried)

    def _allocated(self, logits: torch.Tensor) -> tuple[WeightedSums, WeightedSums]:
        """Return the strip and the planes carried over; allocate them with the first window (K, *window)."""
        if self._strip is None or self._carried is None:
            strip, shared = list(self.plan.padded), list(self.plan.padded)
            strip[self.plan.axis], strip[self._line_axis] = _deepest(self.rows), self.plan.size[self._line_axis]
            shared[self.plan.axis] = _most_shared(self.rows)
            self._carried = WeightedSums.zeros(logits, shared, self.options)
            self._strip = WeightedSums.zeros(logits, strip, self.options)
        return self._strip, self._carried

    def _finish_before(self, end: int, strip: WeightedSums, carried: WeightedSums) -> Iterator[OutputChunk]:
        """Yield the lines before ``end`` of the finished planes, and carry over those of the others."""
        axis, second, row = self.plan.axis, self._line_axis, self._row
        width = self.plan.size[second]
        while self._first < end:
            start = self._first
            stop = min(end, start + width - start % width)
            lines = strip.narrow(second, start % width, stop - start)
            yield from crop_padding(
                self.plan, {axis: row.first, second: start}, lines.narrow(axis, 0, row.final)
            )
            unfinished = lines.narrow(axis, row.final, row.shared)
            carried.narrow(second, start, stop - start).narrow(axis, 0, row.shared).copy_(unfinished)
            lines.zero_()
            self._restore_carried(start + width, min(stop + width, self.plan.padded[second]), lines, carried)
            self._first = stop

    def _restore_carried(self, start: int, stop: int, lines: WeightedSums, carried: WeightedSums) -> None:
        """Copy what the row before left in lines [start, stop) into the first ``lines`` of the strip."""
        if start < stop:
            axis, second, shared = self.plan.axis, self._line_axis, self._shared_before
            source = carried.narrow(second, start, stop - start).narrow(axis, 0, shared)
            lines.narrow(second, 0, stop - start).narrow(axis, 0, shared).copy_(source)

    def _next_row(self, strip: WeightedSums, carried: WeightedSums) -> None:
        self._shared_before = self._row.shared
        self._row_index += 1
        self._first = 0
        strip.zero_()
        self._restore_carried(0, self.plan.size[self._line_axis], strip, carried)

    @property
    def _row(self) -> WindowRow:
        return self.rows[self._row_index]


def plan_rows(plan: WindowPlan) -> list[WindowRow]:
    """Group windows into rows; the last two are one row if they share more planes than other rows do."""
    depth, starts = plan.size[plan.axis], plan.starts[plan.axis]
    groups: list[tuple[int, ...]] = [(start,) for start in starts]
    if len(starts) > 2 and starts[-1] - starts[-2] < starts[1] - starts[0]:
        groups[-2:] = [starts[-2:]]
    ends = [group[-1] + depth for group in groups]
    following = [*(group[0] for group in groups[1:]), ends[-1]]
    return [
        WindowRow(group, max(0, end - after), min(end, after) - group[0])
        for group, end, after in zip(groups, ends, following, strict=True)
    ]


def _line_axis(plan: WindowPlan) -> int:
    """Return the axis along which the windows of one row advance slowest."""
    return next(axis for axis in range(len(plan.shape)) if axis != plan.axis)


def _most_shared(rows: list[WindowRow]) -> int:
    return max(row.shared for row in rows)


def _deepest(rows: list[WindowRow]) -> int:
    return max(row.shared + row.final for row in rows)
