"""From the network's grid to the scan's, a few planes at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

CHUNK_BYTES = 256 * 2**20
"""About how much a piece of resampled scores may take."""


@dataclass(frozen=True)
class Slab:
    """Some planes of an image's scores: (K, *S), from ``start`` along spatial ``axis``."""

    lines: ClassVar[None] = None
    start: int
    axis: int
    scores: torch.Tensor

    @property
    def stop(self) -> int:
        """The first plane after them."""
        return self.start + self.scores.shape[1 + self.axis]


def regrid(
    slabs: Iterable[Slab], source: tuple[int, ...], target: tuple[int, ...], *, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Slab]:
    """Scores on a grid of ``source`` voxels, resampled to ``target`` voxels of the same field of view.

    Linear along each axis, the outer faces of the grid kept in place, edges extended: what
    ``torch.nn.functional.interpolate(align_corners=False)`` makes of the whole, to rounding. Slabs come in
    order and share an axis; so do those returned, each of about ``chunk_bytes``.
    """
    kept: Slab | None = None
    done = 0
    for slab in slabs:
        axis = slab.axis
        kept = _joined(kept, slab)
        last = kept.stop == source[axis]
        ready = target[axis] if last else _reach(kept.stop, source[axis], target[axis])
        for start, stop in _chunks(done, ready, kept.scores, target, chunk_bytes):
            yield Slab(start, axis, _planes(kept, range(start, stop), source, target))
        done = max(done, ready)
        kept = _needed(kept, done, source[axis], target[axis])


def _joined(kept: Slab | None, slab: Slab) -> Slab:
    """Planes kept from before, and new ones; a copy, as the new ones may lie in a ring."""
    if kept is None:
        return Slab(slab.start, slab.axis, slab.scores.clone())
    return Slab(kept.start, slab.axis, torch.cat([kept.scores, slab.scores], dim=1 + slab.axis))


def _position(index: int, source: int, target: int) -> float:
    """Where a target plane's middle lies among the source planes' middles."""
    return min(max((index + 0.5) * source / target - 0.5, 0.0), source - 1.0)


def _reach(stop: int, source: int, target: int) -> int:
    """How many target planes lie between source planes before ``stop``."""
    count = min(target, max(0, math.floor((stop - 0.5) * target / source - 0.5) + 2))
    while count > 0 and math.floor(_position(count - 1, source, target)) + 1 >= stop:
        count -= 1
    return count


def _chunks(
    start: int, stop: int, scores: torch.Tensor, target: tuple[int, ...], chunk_bytes: int
) -> Iterator[tuple[int, int]]:
    """[start, stop) in pieces whose scores take about ``chunk_bytes``."""
    plane = 4 * len(scores) * math.prod(target) // max(target)
    step = max(1, chunk_bytes // max(plane, 1))
    for first in range(start, stop, step):
        yield first, min(stop, first + step)


def _planes(kept: Slab, indices: range, source: tuple[int, ...], target: tuple[int, ...]) -> torch.Tensor:
    """Target planes (K, *S) between the source planes at hand."""
    axis = kept.axis
    positions = [_position(i, source[axis], target[axis]) for i in indices]
    low = [math.floor(p) for p in positions]
    high = [min(i + 1, source[axis] - 1) for i in low]
    scores = kept.scores
    shares = torch.tensor([p - i for p, i in zip(positions, low, strict=True)], device=scores.device)
    shares = shares.reshape([-1 if a == axis else 1 for a in range(len(source))])
    first, second = (
        scores.index_select(1 + axis, torch.tensor([i - kept.start for i in planes], device=scores.device))
        for planes in (low, high)
    )
    return _within(torch.lerp(first, second, shares), axis, target)


def _within(planes: torch.Tensor, axis: int, target: tuple[int, ...]) -> torch.Tensor:
    """Planes (K, *S) resampled along the other axes."""
    flat = planes.movedim(1 + axis, 0)  # (n, K, *the others)
    size = [length for a, length in enumerate(target) if a != axis]
    if list(flat.shape[2:]) != size:
        mode = "linear" if len(size) == 1 else "bilinear"
        flat = F.interpolate(flat, size=size, mode=mode, align_corners=False)
    return flat.movedim(0, 1 + axis)


def _needed(kept: Slab, done: int, source: int, target: int) -> Slab | None:
    """The planes that target planes from ``done`` on still lie between."""
    if done >= target:
        return None
    first = min(kept.stop, max(kept.start, math.floor(_position(done, source, target))))
    axis = kept.axis
    return Slab(first, axis, kept.scores.narrow(1 + axis, first - kept.start, kept.stop - first))
