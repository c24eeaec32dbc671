"""Windows of an image through a network, in batches, with sums for no more than one window's depth.

Windows are processed in the order of one axis. A plane across that axis that no later window touches is
yielded and its memory used again. So memory is classes × window depth × height × width, whatever the length of
the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from medseg.data.loading.sampling.cropping import Border, mirrored_indices
from medseg.inference.sliding_window.accumulator import Accumulator, AccumulatorOptions
from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.inference.sliding_window.ring_accumulator import RingAccumulator
from medseg.inference.sliding_window.strip_accumulator import StripAccumulator
from medseg.inference.sliding_window.window_plan import Starts, WindowPlan

Network = Callable[[torch.Tensor], torch.Tensor]
"""Maps windows (B, C, *window) to logits (B, K, *window)."""

ReadBox = Callable[[tuple[slice, ...]], torch.Tensor]
"""Maps a box within an image to its voxels (C, *box)."""

KeepWindow = Callable[[tuple[slice, ...]], bool]
"""Whether a window, given by its box within the image, goes through the network."""


def make_accumulator(
    plan: WindowPlan, options: AccumulatorOptions, *, whole_planes: bool = True
) -> Accumulator:
    """Return the accumulator that takes the least memory: for strips of planes unless ``whole_planes``."""
    if not whole_planes and StripAccumulator.saves_memory(plan):
        return StripAccumulator(plan, options)
    return RingAccumulator(plan, options)


def stream_windows(
    read: ReadBox,
    plan: WindowPlan,
    network: Network,
    accumulator: Accumulator,
    *,
    batch_size: int = 1,
    keep: KeepWindow | None = None,
) -> Iterator[OutputChunk]:
    """Run a network over the windows of an image and yield sums of logits as they are finished.

    Args:
        read: reads the image.
        plan: where the windows lie.
        network: computes the windows' logits.
        accumulator: sums them, for the same plan.
        batch_size: windows that go through the network at once.
        keep: which windows go through it; all if None.

    Yields:
        Chunks that together cover the image once; none if every window is skipped, as the number of classes
        is unknown then.

    Raises:
        ValueError: logits have another shape than their windows.
    """
    for starts, windows in _batches(read, plan, accumulator.window_order(), batch_size, keep):
        logits = network(windows)
        if logits.shape[2:] != windows.shape[2:]:
            raise ValueError(
                f"the network returns logits of {tuple(logits.shape[2:])} for windows of "
                f"{tuple(windows.shape[2:])}"
            )
        for index, start in enumerate(starts):
            yield from accumulator.add(logits[index], start)
        del logits, windows  # freed before the next ones are computed
    yield from accumulator.finish()


def _batches(
    read: ReadBox, plan: WindowPlan, order: Iterator[Starts], batch_size: int, keep: KeepWindow | None
) -> Iterator[tuple[list[Starts], torch.Tensor]]:
    starts: list[Starts] = []
    windows: list[torch.Tensor] = []
    for start in order:
        box, padding = _box_and_padding(plan, start)
        if keep is not None and not keep(box):
            continue
        voxels = read(box)
        starts.append(start)
        windows.append(_pad(voxels, padding, plan.border) if any(padding) else voxels)
        if len(starts) == batch_size:
            yield starts, _batch(windows)
            starts, windows = [], []
    if starts:
        yield starts, _batch(windows)


def _pad(voxels: torch.Tensor, padding: list[int], border: Border) -> torch.Tensor:
    """Pad voxels (C, *box) by numbers in the order of ``F.pad``."""
    if border == "zeros":
        return F.pad(voxels, padding)
    for number in range(len(padding) // 2):
        axis, (before, after) = voxels.ndim - 1 - number, padding[2 * number : 2 * number + 2]
        if before or after:
            size = voxels.shape[axis]
            index = mirrored_indices(-before, before + size + after, size)
            voxels = voxels.index_select(axis, torch.as_tensor(index))
    return voxels


def _batch(windows: list[torch.Tensor]) -> torch.Tensor:
    return windows[0][None] if len(windows) == 1 else torch.stack(windows)


def _box_and_padding(plan: WindowPlan, start: Starts) -> tuple[tuple[slice, ...], list[int]]:
    """Return the part of a window that lies within the image, and its padding as ``F.pad`` expects it."""
    box: list[slice] = []
    padding: list[int] = []
    for begin, window, length, (before, _) in zip(start, plan.size, plan.shape, plan.padding, strict=True):
        first, last = max(0, begin - before), min(length, begin - before + window)
        box.append(slice(first, last))
        own = [before, window - before - (last - first)] if length < window else [0, 0]
        padding = [*own, *padding]  # the last axis comes first
    return tuple(box), padding
