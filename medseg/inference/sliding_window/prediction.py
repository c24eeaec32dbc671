"""Whole cases through a network, window by window, and what it decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch

from medseg.data.preprocessing.pipeline import SliceConfig
from medseg.geometry import Array
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.overlap_tile import Reach, exact_planes
from medseg.inference.sliding_window.ring_accumulator import Planes
from medseg.inference.sliding_window.streaming import Keep, Predict, Read, stream_windows
from medseg.inference.sliding_window.streaming_resample import Slab
from medseg.inference.sliding_window.tta import Variants
from medseg.inference.sliding_window.window_plan import WindowPlan, window_weights
from medseg.system.device import to_device
from medseg.task import Activation


class Windowed(Protocol):
    """An image of which windows are read when they are needed; ``shape`` is (C, *S)."""

    shape: tuple[int, ...]

    def window(self, box: tuple[slice, ...]) -> Array:
        """Its voxels (C, *box), an array of the caller's own."""
        ...


@dataclass(frozen=True)
class Decided:
    """Planes of what was found: classes (1, *S) or regions (R, *S), and the probabilities (K, *S) if wanted; or
    a strip of planes, ``lines`` as in ``Planes``.
    """

    start: int
    axis: int
    hard: torch.Tensor
    scores: torch.Tensor | None = None
    lines: tuple[int, int] | None = None


def score_planes(
    predict: Predict,
    image: Array | Windowed,
    settings: InferenceConfig,
    *,
    device: torch.device,
    slices: SliceConfig | None = None,
    sums_on: torch.device | None = None,
    along: int | None = None,
    exchange: tuple[int, ...] = (),
    inside: Array | Keep | None = None,
    reach: Reach | None = None,
    strips: bool = False,
) -> Iterator[Planes]:
    """Mean logits of a preprocessed image (C, *S), plane by plane, windows blended; without ``roi_size`` the
    whole image is one window.

    The image stays where it is.

    Args:
        predict: a backend's; it takes windows and gives scores on ``device``.
        slices: the network is 2D and goes through the first spatial axis, each slice with its neighbors as
            channels.
        sums_on: where scores are summed, if not on ``device``.
        along: the axis whose planes come one after another; none: the one that takes the least memory.
        exchange: for each channel the one it becomes in a mirror image.
        inside: (*S) bool; windows in which it is nowhere true are left out. Or what tells so of a box.
        reach: how far the network sees, for ``blend: exact``.
        strips: planes may come in strips, where that takes less memory.
    """
    shape = image.shape[1:]
    variants = Variants(settings.flips, settings.scales, exchange)
    predict = on_device(variants.of(predict, settings.batch_size), device)
    read: Read = _reader(image)
    size = settings.roi_size
    if slices is not None:
        size = (1, *(size or shape[1:]))
        if not isinstance(image, np.ndarray):
            raise ValueError("slices are cut from arrays in memory")
        predict, read = _flat(predict), _slice_reader(image, slices)
    if reach is not None:
        return _without_gradients(exact_planes(read, shape, size or shape, predict, reach))
    plan = WindowPlan(shape, size or shape, settings.overlap, along=along)
    weight = window_weights(plan.size, settings.blend).to(sums_on or device)
    keep = _keeper(inside) if isinstance(inside, np.ndarray) else inside
    planes = stream_windows(
        read, plan, predict, weight, batch_size=settings.batch_size, keep=keep, strips=strips
    )
    return _without_gradients(planes)


def on_device(predict: Predict, device: torch.device) -> Predict:
    """``predict`` of windows that are still on the CPU: they are sent once, whatever it makes of them."""
    return lambda windows: predict(to_device(windows, device))


def _without_gradients(planes: Iterator[Planes]) -> Iterator[Planes]:
    """The same planes; gradients are off while they are made, and as they were in between."""
    while True:
        with torch.inference_mode():
            one = next(planes, None)
        if one is None:
            return
        yield one


def _keeper(inside: Array) -> Keep:
    return lambda box: bool(inside[box].any())


def _reader(image: Array | Windowed) -> Read:
    if not isinstance(image, np.ndarray):
        return lambda box: torch.from_numpy(image.window(box))
    if not image.flags.writeable:  # a map of a file, which torch does not take
        return lambda box: torch.from_numpy(image[(slice(None), *box)].copy())
    whole = torch.from_numpy(image)
    return lambda box: whole[(slice(None), *box)].clone(memory_format=torch.contiguous_format)


def _slice_reader(image: Array, slices: SliceConfig) -> Read:
    """Single slices (C · thickness, 1, *box) with their neighbors, the first and last repeated."""
    near = range(-slices.neighbors, slices.neighbors + 1)

    def read(box: tuple[slice, ...]) -> torch.Tensor:
        z, rest = box[0].start, box[1:]
        picked = [min(max(z + k, 0), image.shape[1] - 1) for k in near]
        channels = np.concatenate([image[(slice(None), k, *rest)] for k in picked])
        return torch.from_numpy(channels[:, None])

    return read


def _flat(predict: Predict) -> Predict:
    """A 2D network's scores of windows (B, C, 1, H, W)."""
    return lambda windows: predict(windows[:, :, 0])[:, :, None]


def decide(scores: torch.Tensor, activation: Activation, threshold: float = 0.0) -> torch.Tensor:
    """The most likely class (1, *S) uint8 or int16 of scores (K, *S), the first of several; with a sigmoid
    the regions (R, *S) bool whose score is above ``threshold``.
    """
    if activation == "sigmoid":
        return scores > threshold
    return most_likely(scores)[None]


def most_likely(scores: torch.Tensor) -> torch.Tensor:
    """The class (*S) with the highest of scores (K, *S), uint8 (int16 for more than 256 classes).

    torch's argmax over the first axis of tensors on the CPU is several times as slow as K comparisons.
    """
    small = torch.uint8 if len(scores) <= 256 else torch.int16
    if scores.device.type != "cpu" or (len(scores) > 1 and scores.stride(0) == 1):
        return scores.argmax(dim=0).to(small)
    best, found = scores[0].clone(), torch.zeros(scores.shape[1:], dtype=small)
    for index, one in enumerate(scores[1:], start=1):
        found.masked_fill_(one > best, index)
        torch.maximum(best, one, out=best)
    return found


Piece = TypeVar("Piece", Planes, Slab, Decided)


def gather(pieces: Iterator[Piece], shape: tuple[int, ...], take: Callable[[Piece], torch.Tensor]) -> Array:
    """What is taken (N, *S) of each piece of an image, put together on the CPU, of the type it has there.

    Raises: ValueError if there are no pieces.
    """
    whole: Array | None = None
    for one in pieces:
        part = take(one).cpu().numpy()
        if whole is None:
            whole = np.zeros((len(part), *shape), part.dtype)
        place(whole, one.start, one.axis, part, one.lines)
    if whole is None:
        raise ValueError("no pieces of an image to put together")
    return whole


def place(whole: Array, start: int, axis: int, part: Array, lines: tuple[int, int] | None = None) -> None:
    """Write planes (N, *S), from ``start`` on along spatial ``axis``, into a whole image (N, *S); or a strip of
    them, ``lines`` as in ``Planes``.
    """
    box = [slice(None)] * whole.ndim
    for along, first in ((axis, start), *([lines] if lines is not None else [])):
        box[1 + along] = slice(first, first + part.shape[1 + along])
    whole[tuple(box)] = part


def probabilities_of(logits: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Probabilities (K, *S) of logits (K, *S)."""
    return logits.softmax(dim=0) if activation == "softmax" else logits.sigmoid()


def plane_probabilities(planes: Planes, activation: Activation) -> torch.Tensor:
    """Probabilities (K, *S) of planes; where no window went through the network, the first class (with a
    sigmoid: no region) is certain.
    """
    found, unseen = probabilities_of(planes.means, activation), planes.weights == 0
    if bool(unseen.any()):
        found.masked_fill_(unseen, 0.0)
        if activation == "softmax":
            found[0].masked_fill_(unseen, 1.0)
    return found
