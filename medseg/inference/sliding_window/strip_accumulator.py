"""Sums of a strip of planes, for windows that overlap less than they are deep.

Windows of one row, all that begin at one plane, go by line of windows by line of windows. Lines that no later
window of the row touches are finished in the planes before the next row's; of the others, which the next row
touches too, sums are carried over. So what is kept is a strip, one window deep and one window wide, and the
planes that two rows share: with windows of 64³, an overlap of a quarter and images of 256³ half of one window's
depth. Where the last row was moved back to the image's end, it goes by together with the one before, and their
sums are added up in another order than without strips; all others are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from medseg.inference.sliding_window.ring_accumulator import Planes, add_weighted, cropped, empty_sums, wrapped
from medseg.inference.sliding_window.window_plan import Starts, WindowPlan

_WORTH = 0.8
"""Strips are smaller pieces to decide on; they are made if they take less than this share of whole planes."""


@dataclass(frozen=True)
class Row:
    """Windows that go by together: where they begin along the streamed axis, how many planes they share with
    the next row, and how many they are the last to touch.
    """

    starts: tuple[int, ...]
    shared: int
    final: int

    @property
    def first(self) -> int:
        """Its first plane."""
        return self.starts[0]


@dataclass
class Strips:
    """Sums of one row of windows, lines [first, first + width) of it; line l lies at l modulo width.

    Attributes:
        second: the axis that the lines lie along.
        sums, weights: (K, *S) and (*S), S the padded image's shape but for a window's along ``plan.axis`` and
            ``second``.
        carried: the same of the planes that two rows share, with all lines: those before ``first`` are for the
            next row, those from ``first`` + width on of the row before.
        row: which of the ``rows`` of windows it is.
        before: how many planes the row shares with the one before.
    """

    plan: WindowPlan
    rows: list[Row]
    weight: torch.Tensor
    second: int
    sums: torch.Tensor
    weights: torch.Tensor
    carried: tuple[torch.Tensor, torch.Tensor]
    row: int = 0
    before: int = 0
    first: int = 0

    @staticmethod
    def save(plan: WindowPlan) -> bool:
        """Whether they take clearly less memory than whole planes."""
        if len(plan.shape) < 3 or plan.size[plan.axis] == 1:
            return False
        second, rows = _second(plan), rows_of(plan)
        lines = plan.padded[second]
        strips = _most_shared(rows) * lines + _deepest(rows) * plan.size[second]
        return strips < _WORTH * plan.size[plan.axis] * lines

    @staticmethod
    def order(plan: WindowPlan) -> Iterator[Starts]:
        """The windows, row by row, within a row by their lines."""
        axis, second = plan.axis, _second(plan)
        others = [a for a in range(len(plan.shape)) if a not in (axis, second)]
        for row in rows_of(plan):
            for line, plane, *rest in product(
                plan.starts[second], row.starts, *(plan.starts[a] for a in others)
            ):
                place = dict(zip((second, axis, *others), (line, plane, *rest), strict=True))
                yield tuple(place[a] for a in range(len(plan.shape)))

    @classmethod
    def like(cls, scores: torch.Tensor, plan: WindowPlan, weight: torch.Tensor, dtype: torch.dtype) -> Strips:
        """No sums yet, for scores (K, *window)."""
        second, rows = _second(plan), rows_of(plan)
        strip, shared = list(plan.padded), list(plan.padded)
        strip[plan.axis], strip[second] = _deepest(rows), plan.size[second]
        shared[plan.axis] = _most_shared(rows)
        carried = empty_sums(scores, shared, weight.device, dtype)
        return cls(plan, rows, weight, second, *empty_sums(scores, strip, weight.device, dtype), carried)

    def add(self, scores: torch.Tensor, place: Starts) -> None:
        """Add a window's scores (K, *window), weighted; ``until(place)`` came before."""
        start, width = place[self.second], self.plan.size[self.second]
        box = [slice(begin, begin + size) for begin, size in zip(place, self.plan.size, strict=True)]
        plane = place[self.plan.axis] - self._row.first
        box[self.plan.axis] = slice(plane, plane + self.plan.size[self.plan.axis])
        for own, there in wrapped(start, start + width, width):
            box[self.second] = there
            add_weighted(self.sums, self.weights, box, scores, self.weight, self.second, own)

    def until(self, place: Starts) -> Iterator[Planes]:
        """Give away what windows from ``place`` on do not touch."""
        while self._row.starts[-1] < place[self.plan.axis]:
            yield from self._finish(self.plan.padded[self.second])
            self._next_row()
        yield from self._finish(place[self.second])

    def rest(self) -> Iterator[Planes]:
        """Give away what is left."""
        while True:
            yield from self._finish(self.plan.padded[self.second])
            if self.row + 1 == len(self.rows):
                return
            self._next_row()

    def _finish(self, until: int) -> Iterator[Planes]:
        """Give away the lines before ``until`` of the planes that are finished, carry over the others."""
        axis, width = self.plan.axis, self.plan.size[self.second]
        while self.first < until:
            start = self.first
            stop = min(until, start + width - start % width)
            own = slice(start % width, start % width + stop - start)
            sums, weights = (self._lines(part, own) for part in (self.sums, self.weights))
            finished = sums.narrow(1 + axis, 0, self._row.final), weights.narrow(axis, 0, self._row.final)
            yield from cropped(self.plan, {axis: self._row.first, self.second: start}, *finished)
            self._carry(start, stop)
            self._enter(start + width, min(stop + width, self.plan.padded[self.second]), own)
            self.first = stop

    def _carry(self, start: int, stop: int) -> None:
        """Keep lines [start, stop) of the planes that the next row touches, too."""
        axis, width = self.plan.axis, self.plan.size[self.second]
        own, row = slice(start % width, start % width + stop - start), self._row
        for strip, carried in zip((self.sums, self.weights), self.carried, strict=True):
            source = _along(self._lines(strip, own), axis, self.plan, row.final, row.shared)
            _along(self._lines(carried, slice(start, stop)), axis, self.plan, 0, row.shared).copy_(source)

    def _enter(self, start: int, stop: int, own: slice) -> None:
        """Lines [start, stop) take the places ``own``, with what was carried over to this row."""
        axis = self.plan.axis
        for strip, carried in zip((self.sums, self.weights), self.carried, strict=True):
            self._lines(strip, own).zero_()
            if start < stop:
                there = self._lines(strip, slice(own.start, own.start + stop - start))
                source = _along(self._lines(carried, slice(start, stop)), axis, self.plan, 0, self.before)
                _along(there, axis, self.plan, 0, self.before).copy_(source)

    def _next_row(self) -> None:
        self.before, self.row, self.first = self._row.shared, self.row + 1, 0
        width = self.plan.size[self.second]
        self._enter(0, width, slice(0, width))

    @property
    def _row(self) -> Row:
        return self.rows[self.row]

    def _lines(self, part: torch.Tensor, lines: slice) -> torch.Tensor:
        """Lines of sums (K, *S) or weights (*S)."""
        axis = self.second + part.ndim - len(self.plan.shape)
        return part.narrow(axis, lines.start, lines.stop - lines.start)


def _along(part: torch.Tensor, axis: int, plan: WindowPlan, start: int, length: int) -> torch.Tensor:
    """Planes of sums (K, *S) or weights (*S)."""
    return part.narrow(axis + part.ndim - len(plan.shape), start, length)


def _second(plan: WindowPlan) -> int:
    """The axis on which windows of one row advance the slowest."""
    return next(axis for axis in range(len(plan.shape)) if axis != plan.axis)


def rows_of(plan: WindowPlan) -> list[Row]:
    """The rows of windows; the last two are one if they share more planes than others do."""
    depth, starts = plan.size[plan.axis], plan.starts[plan.axis]
    groups: list[tuple[int, ...]] = [(start,) for start in starts]
    if len(starts) > 2 and starts[-1] - starts[-2] < starts[1] - starts[0]:
        groups[-2:] = [starts[-2:]]
    ends = [group[-1] + depth for group in groups]
    following = [*(group[0] for group in groups[1:]), ends[-1]]
    return [
        Row(group, max(0, end - after), min(end, after) - group[0])
        for group, end, after in zip(groups, ends, following, strict=True)
    ]


def _most_shared(rows: list[Row]) -> int:
    return max(row.shared for row in rows)


def _deepest(rows: list[Row]) -> int:
    return max(row.shared + row.final for row in rows)
