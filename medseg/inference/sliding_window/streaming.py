"""A sliding window that never holds more of an image's scores than one window is deep.

Windows go by in the order of one axis. What they add up lies in a ring of planes across that axis; a plane
that no later window touches leaves the ring, and its place is used again. So the memory is classes × window
depth × height × width, whatever the length of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from medseg.inference.sliding_window.ring_accumulator import Planes, Ring
from medseg.inference.sliding_window.strip_accumulator import Strips
from medseg.inference.sliding_window.window_plan import Starts, WindowPlan

Predict = Callable[[torch.Tensor], torch.Tensor]
"""Windows (B, C, *window) to scores (B, K, *window)."""

Read = Callable[[tuple[slice, ...]], torch.Tensor]
"""A box within an image to its voxels (C, *box)."""

Keep = Callable[[tuple[slice, ...]], bool]
"""Whether a window, by its box within the image, goes through the network."""


def stream_windows(
    read: Read,
    plan: WindowPlan,
    predict: Predict,
    weight: torch.Tensor,
    *,
    batch_size: int = 1,
    keep: Keep | None = None,
    sums: torch.dtype = torch.float32,
    strips: bool = False,
) -> Iterator[Planes]:
    """Finished planes of an image, its windows going through ``predict`` in batches.

    ``weight`` (*window) float32 lies on the device where scores are summed. Planes before the first kept
    window come with it, those after the last one at the end: every plane of the image comes once.
    ``sums`` is the type that scores and weights are summed in. With ``strips`` planes may come in strips, one
    after another, where that takes less memory (:mod:`medseg.inference.sliding_window.strip_accumulator`).

    Raises: ValueError if scores have another shape than their windows.
    """
    kind = Strips if strips and Strips.save(plan) else Ring
    order = Strips.order(plan) if kind is Strips else iter(plan)
    ring: Ring | Strips | None = None
    for places, windows in _batches(read, plan, order, batch_size, keep):
        scores = predict(windows)
        if scores.shape[2:] != windows.shape[2:]:
            raise ValueError(f"scores of {tuple(scores.shape[2:])} for windows of {tuple(windows.shape[2:])}")
        if ring is None:
            ring = kind.like(scores[0], plan, weight, sums)
        for index, place in enumerate(places):
            yield from ring.until(place)
            ring.add(scores[index], place)
        del scores, windows  # not kept while the next ones are computed
    if ring is None:  # every window was left out; how many classes there are is not known
        return
    yield from ring.rest()


def _batches(
    read: Read, plan: WindowPlan, order: Iterator[Starts], batch_size: int, keep: Keep | None
) -> Iterator[tuple[list[Starts], torch.Tensor]]:
    places: list[Starts] = []
    windows: list[torch.Tensor] = []
    for place in order:
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
