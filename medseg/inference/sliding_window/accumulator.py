"""Accumulating weighted logits of overlapping windows: the protocol, and what its implementations share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.inference.sliding_window.window_plan import Starts, WindowPlan


@dataclass(frozen=True)
class AccumulatorOptions:
    """How window logits are summed.

    Attributes:
        weight: (*window) float32, the weight of each voxel of a window, on the device of the sums.
        dtype: type of the sums.
        sum_weights: also sum the weights, which mean logits need. Classes and regions follow from the sums of
            logits alone.
    """

    weight: torch.Tensor
    dtype: torch.dtype = torch.float32
    sum_weights: bool = True


class Accumulator(Protocol):
    """Sums window logits and yields each part of the image as soon as no later window touches it.

    Memory for the sums is allocated with the first window, when the number of classes is known.
    """

    def window_order(self) -> Iterator[Starts]:
        """Yield the windows in the order in which ``add`` expects them."""
        ...

    def add(self, logits: torch.Tensor, start: Starts) -> Iterator[OutputChunk]:
        """Yield what neither this window nor a later one touches, then add the window's logits (K, *window).

        The window is added when the iterator is exhausted.
        """
        ...

    def finish(self) -> Iterator[OutputChunk]:
        """Yield the rest of the image; nothing if no window was added."""
        ...


@dataclass(frozen=True)
class WeightedSums:
    """Sums over a box of the padded image: of weighted logits (K, *s), and of weights (*s) if they are kept."""

    logits: torch.Tensor
    weights: torch.Tensor | None

    @classmethod
    def zeros(cls, logits: torch.Tensor, shape: Sequence[int], options: AccumulatorOptions) -> WeightedSums:
        """Return zeros for window logits (K, *window), classes last in memory if theirs are."""
        device, dtype, classes = options.weight.device, options.dtype, len(logits)
        if classes > 1 and logits.stride(0) == 1:
            sums = torch.zeros(*shape, classes, device=device, dtype=dtype).movedim(-1, 0)
        else:
            sums = torch.zeros(classes, *shape, device=device, dtype=dtype)
        weights = torch.zeros(*shape, device=device, dtype=dtype) if options.sum_weights else None
        return cls(sums, weights)

    @property
    def shape(self) -> torch.Size:
        """Shape of the box."""
        return self.logits.shape[1:]

    def narrow(self, axis: int, start: int, length: int) -> WeightedSums:
        """Return a part along a spatial axis, as a view."""
        weights = None if self.weights is None else self.weights.narrow(axis, start, length)
        return WeightedSums(self.logits.narrow(1 + axis, start, length), weights)

    def zero_(self) -> None:
        """Set all sums to 0."""
        self.logits.zero_()
        if self.weights is not None:
            self.weights.zero_()

    def copy_(self, other: WeightedSums) -> None:
        """Copy the sums of a box of the same shape."""
        self.logits.copy_(other.logits)
        if self.weights is not None and other.weights is not None:
            self.weights.copy_(other.weights)

    def add(
        self, box: Sequence[slice], logits: torch.Tensor, weight: torch.Tensor, axis: int, part: slice
    ) -> None:
        """Add the ``part`` along ``axis`` of a window's logits (K, *window), weighted, to a box of the sums."""
        weight = weight.narrow(axis, part.start, part.stop - part.start)
        logits = logits.to(weight.device).narrow(1 + axis, part.start, part.stop - part.start).float()
        target = self.logits[(slice(None), *box)]
        if target.dtype == torch.float32:
            target.addcmul_(logits, weight)
        else:
            target += logits * weight
        if self.weights is not None:
            self.weights[tuple(box)] += weight


def crop_padding(plan: WindowPlan, starts: Mapping[int, int], sums: WeightedSums) -> Iterator[OutputChunk]:
    """Yield sums without the padding, as one chunk; nothing if they lie in the padding only.

    Args:
        plan: the windows.
        starts: where the sums begin in the padded image, for the axes on which they are a part of it.
        sums: of a box of the padded image.
    """
    region: list[slice] = []
    for axis, (before, _) in enumerate(plan.padding):
        start = starts.get(axis, 0)
        begin = max(start, before)
        stop = min(start + sums.shape[axis], before + plan.shape[axis])
        if begin >= stop:
            return
        region.append(slice(begin - before, stop - before))
        sums = sums.narrow(axis, begin - start, stop - begin)
    yield OutputChunk(tuple(region), plan.axis, sums.logits, sums.weights)


def ring_slices(start: int, stop: int, depth: int) -> Sequence[tuple[slice, slice]]:
    """Return where planes [start, stop), at most ``depth`` of them, lie in a ring of ``depth`` planes.

    Returns:
        One or two pairs (slice of the planes, slice of the ring).
    """
    turn = math.ceil((start + 1) / depth) * depth  # where the ring begins again
    pieces = [(start, min(stop, turn)), (turn, stop)]
    return [(slice(a - start, b - start), slice(a % depth, a % depth + b - a)) for a, b in pieces if a < b]
