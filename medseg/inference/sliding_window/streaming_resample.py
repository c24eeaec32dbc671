"""Resampling from the network's grid to the scan's, a few planes at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F

from medseg.inference.sliding_window.output_chunk import OutputChunk

CHUNK_BYTES = 256 * 2**20
"""Approximate size of a resampled chunk."""


def resample_chunks(
    chunks: Iterable[OutputChunk],
    source: tuple[int, ...],
    target: tuple[int, ...],
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[OutputChunk]:
    """Resample chunks of whole planes to another grid with the same field of view.

    Linear along each axis, the outer faces of the grid kept in place, edges extended: to rounding, the result
    of ``torch.nn.functional.interpolate(align_corners=False)`` on the whole.

    Args:
        chunks: whole planes (N, *s) in order along one axis.
        source: voxels of their grid.
        target: voxels of the new grid.
        chunk_bytes: approximate size of the chunks returned.

    Yields:
        Chunks of the new grid along the same axis.
    """
    kept: OutputChunk | None = None
    done = 0
    for chunk in chunks:
        axis = chunk.axis
        kept = _joined(kept, chunk)
        last = kept.stop == source[axis]
        ready = target[axis] if last else _planes_before(kept.stop, source[axis], target[axis])
        for start, stop in _pieces(done, ready, kept.tensor, target, chunk_bytes):
            planes = _interpolated(kept, range(start, stop), source, target)
            yield OutputChunk.of_planes(planes, start, axis)
        done = max(done, ready)
        kept = _still_needed(kept, done, source[axis], target[axis])


def _joined(kept: OutputChunk | None, chunk: OutputChunk) -> OutputChunk:
    """Return planes kept from before with new ones; a copy, as chunks may be views of an accumulator."""
    if kept is None:
        return OutputChunk.of_planes(chunk.tensor.clone(), chunk.start, chunk.axis)
    tensor = torch.cat([kept.tensor, chunk.tensor], dim=1 + chunk.axis)
    return OutputChunk.of_planes(tensor, kept.start, chunk.axis)


def _position(index: int, source: int, target: int) -> float:
    """Return where the center of a target plane lies among the centers of the source planes."""
    return min(max((index + 0.5) * source / target - 0.5, 0.0), source - 1.0)


def _planes_before(stop: int, source: int, target: int) -> int:
    """Return how many target planes lie between source planes before ``stop``."""
    count = min(target, max(0, math.floor((stop - 0.5) * target / source - 0.5) + 2))
    while count > 0 and math.floor(_position(count - 1, source, target)) + 1 >= stop:
        count -= 1
    return count


def _pieces(
    start: int, stop: int, tensor: torch.Tensor, target: tuple[int, ...], chunk_bytes: int
) -> Iterator[tuple[int, int]]:
    """Split [start, stop) into pieces that take about ``chunk_bytes``."""
    plane = 4 * len(tensor) * math.prod(target) // max(target)
    step = max(1, chunk_bytes // max(plane, 1))
    for first in range(start, stop, step):
        yield first, min(stop, first + step)


def _interpolated(
    kept: OutputChunk, indices: range, source: tuple[int, ...], target: tuple[int, ...]
) -> torch.Tensor:
    """Return target planes (N, *s) that lie between the source planes kept."""
    axis = kept.axis
    positions = [_position(i, source[axis], target[axis]) for i in indices]
    low = [math.floor(p) for p in positions]
    high = [min(i + 1, source[axis] - 1) for i in low]
    tensor = kept.tensor
    shares = torch.tensor([p - i for p, i in zip(positions, low, strict=True)], device=tensor.device)
    shares = shares.reshape([-1 if a == axis else 1 for a in range(len(source))])
    first, second = (
        tensor.index_select(1 + axis, torch.tensor([i - kept.start for i in planes], device=tensor.device))
        for planes in (low, high)
    )
    return _resized_planes(torch.lerp(first, second, shares), axis, target)


def _resized_planes(planes: torch.Tensor, axis: int, target: tuple[int, ...]) -> torch.Tensor:
    """Return planes (N, *s) resampled along the other axes."""
    flat = planes.movedim(1 + axis, 0)  # (planes, N, *the others)
    size = [length for a, length in enumerate(target) if a != axis]
    if list(flat.shape[2:]) != size:
        mode = "linear" if len(size) == 1 else "bilinear"
        flat = F.interpolate(flat, size=size, mode=mode, align_corners=False)
    return flat.movedim(0, 1 + axis)


def _still_needed(kept: OutputChunk, done: int, source: int, target: int) -> OutputChunk | None:
    """Return the source planes that target planes from ``done`` on lie between."""
    if done >= target:
        return None
    first = min(kept.stop, max(kept.start, math.floor(_position(done, source, target))))
    return kept.planes(first, kept.stop)
