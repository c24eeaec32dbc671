"""Logits of a whole image by sliding window, and the classes and probabilities that follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from medseg.data.preprocessing.pipeline import SliceConfig
from medseg.geometry import Array
from medseg.inference.sliding_window.accumulator import AccumulatorOptions
from medseg.inference.sliding_window.options import Execution, SlidingWindowOptions
from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.inference.sliding_window.overlap_tile import overlap_tile_logits
from medseg.inference.sliding_window.streaming import (
    KeepWindow,
    Network,
    ReadBox,
    make_accumulator,
    stream_windows,
)
from medseg.inference.sliding_window.window_plan import WindowPlan, window_weights
from medseg.system.device import to_device
from medseg.task import Activation


class WindowedImage(Protocol):
    """An image whose windows are read when needed; ``shape`` is (C, *S)."""

    shape: tuple[int, ...]

    def window(self, box: tuple[slice, ...]) -> Array:
        """Return the voxels (C, *box) as a new array."""
        ...


def sliding_window_logits(
    network: Network,
    image: Array | WindowedImage,
    options: SlidingWindowOptions,
    execution: Execution,
    *,
    keep: Array | KeepWindow | None = None,
) -> Iterator[OutputChunk]:
    """Run a network over an image window by window and yield averaged logits chunk by chunk.

    Memory depends on the window's depth and the number of classes, not on the image's length. The image stays
    where it is; windows are moved to the network's device.

    Args:
        network: maps windows (B, C, *R) to logits (B, K, *R), on ``execution.device``.
        image: (C, *S), preprocessed.
        options: windows, test-time augmentation, form of the chunks.
        execution: device, batch size, and the device of the sums.
        keep: (*S) bool, windows in which it is nowhere true are skipped; or a function of a window's box.

    Yields:
        Chunks in order along the streaming axis that together cover the image once, valid until the next one;
        none if every window is skipped.

    Raises:
        ConfigError: the network's logits depend on the tile (with ``receptive_field``).

    Example:
        >>> options = SlidingWindowOptions(roi_size=(4, 4), overlap=0.25)
        >>> image = np.ones((1, 9, 7), np.float32)
        >>> execution = Execution(torch.device("cpu"))
        >>> chunks = sliding_window_logits(lambda windows: 2 * windows, image, options, execution)
        >>> [(chunk.start, chunk.stop, round(float(chunk.means.mean()), 4)) for chunk in chunks]
        [(0, 3, 2.0), (3, 4, 2.0), (4, 5, 2.0), (5, 8, 2.0), (8, 9, 2.0)]
    """
    shape = image.shape[1:]
    size = options.window_size(shape if options.slices is None else shape[1:])
    network = move_windows(options.tta.wrap(network, execution.batch_size), execution.device)
    read = _reader(image)
    if options.slices is not None:
        size = (1, *size)
        if not isinstance(image, np.ndarray):
            raise ValueError("slices need an image in memory")
        network, read = _on_slices(network), _slice_reader(image, options.slices)
    if options.receptive_field is not None:
        return _without_gradients(overlap_tile_logits(read, shape, size, network, options.receptive_field))
    plan = WindowPlan(shape, size, options.overlap, along=options.streaming_axis, border=options.border)
    weight = window_weights(plan.size, options.blend).to(execution.accumulator_device)
    accumulator = make_accumulator(
        plan, AccumulatorOptions(weight, sum_weights=options.normalize), whole_planes=options.whole_planes
    )
    keep = None if keep is None else _window_filter(keep)
    chunks = stream_windows(read, plan, network, accumulator, batch_size=execution.batch_size, keep=keep)
    return _without_gradients(chunks)


def zero_logits_if_empty(
    chunks: Iterator[OutputChunk], num_classes: int, shape: tuple[int, ...], axis: int
) -> Iterator[OutputChunk]:
    """Yield the chunks of an image (*S); if there are none, chunks of logits 0 with weight 0."""
    empty = True
    for chunk in chunks:
        empty = False
        yield chunk
    if not empty:
        return
    plane = [1 if a == axis else length for a, length in enumerate(shape)]
    step = max(1, _EMPTY_CHUNK_BYTES // (4 * num_classes * math.prod(plane)))
    for start in range(0, shape[axis], step):
        plane[axis] = min(step, shape[axis] - start)
        yield OutputChunk.of_planes(torch.zeros(num_classes, *plane), start, axis, torch.zeros(*plane))


_EMPTY_CHUNK_BYTES = 64 * 2**20


def move_windows(network: Network, device: torch.device) -> Network:
    """Return a network that takes windows on the CPU and moves them to its device once."""
    return lambda windows: network(to_device(windows, device))


def _without_gradients(chunks: Iterator[OutputChunk]) -> Iterator[OutputChunk]:
    """Yield the same chunks, computed without gradients; the caller's gradient mode is kept in between."""
    while True:
        with torch.inference_mode():
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


def _window_filter(keep: Array | KeepWindow) -> KeepWindow:
    return keep if callable(keep) else lambda box: bool(keep[box].any())


def _reader(image: Array | WindowedImage) -> ReadBox:
    if not isinstance(image, np.ndarray):
        return lambda box: torch.as_tensor(image.window(box))
    if not image.flags.writeable:  # a memory map, which torch does not take
        return lambda box: torch.as_tensor(image[(slice(None), *box)].copy())
    whole = torch.as_tensor(image)
    return lambda box: whole[(slice(None), *box)].clone(memory_format=torch.contiguous_format)


def _slice_reader(image: Array, slices: SliceConfig) -> ReadBox:
    """Return a reader of single slices (C · thickness, 1, *box); neighbors beyond the ends are repeated."""
    near = range(-slices.neighbors, slices.neighbors + 1)

    def read(box: tuple[slice, ...]) -> torch.Tensor:
        z, rest = box[0].start, box[1:]
        picked = [min(max(z + k, 0), image.shape[1] - 1) for k in near]
        channels = np.concatenate([image[(slice(None), k, *rest)] for k in picked])
        return torch.as_tensor(channels[:, None])

    return read


def _on_slices(network: Network) -> Network:
    """Return a 2D network that takes windows (B, C, 1, H, W)."""
    return lambda windows: network(windows[:, :, 0])[:, :, None]


def decide(values: torch.Tensor, activation: Activation, threshold: float = 0.0) -> torch.Tensor:
    """Return the labels of logits or probabilities (K, *S).

    Args:
        values: logits (or positive multiples of them), or probabilities.
        activation: of the model.
        threshold: above which a region is present: 0 for logits, 0.5 for probabilities.

    Returns:
        ``softmax``: the most likely class (1, *S), the first of several, as :func:`most_likely`;
        ``sigmoid``: regions (K, *S) bool.
    """
    if activation == "sigmoid":
        return values > threshold
    return most_likely(values)[None]


def decide_at(
    probabilities: torch.Tensor, activation: Activation, thresholds: Sequence[float] | None
) -> torch.Tensor:
    """Return the labels of probabilities (K, *S), with a threshold for each region.

    Args:
        probabilities: of regions or classes.
        activation: of the model.
        thresholds: K probabilities above which a region, or the second of two classes, is present; None for
            0.5, or the most likely class.

    Returns:
        As :func:`decide`.

    Example:
        >>> decide_at(torch.tensor([[0.6, 0.8], [0.4, 0.2]]), "softmax", [0.5, 0.3]).tolist()
        [[1, 0]]
    """
    if thresholds is None:
        return decide(probabilities, activation, 0.5)
    limits = torch.tensor(thresholds, dtype=probabilities.dtype, device=probabilities.device)
    above = probabilities > limits.view(-1, *[1] * (probabilities.ndim - 1))
    return above if activation == "sigmoid" else above[1:].to(torch.uint8)


def most_likely(values: torch.Tensor) -> torch.Tensor:
    """Return the class (*S) with the highest of values (K, *S), uint8 (int16 for more than 256 classes).

    torch's argmax over the first axis of tensors on the CPU is several times as slow as K comparisons.
    """
    dtype = torch.uint8 if len(values) <= 256 else torch.int16
    if values.device.type != "cpu" or (len(values) > 1 and values.stride(0) == 1):
        return values.argmax(dim=0).to(dtype)
    highest, classes = values[0].clone(), torch.zeros(values.shape[1:], dtype=dtype)
    for index, value in enumerate(values[1:], start=1):
        classes.masked_fill_(value > highest, index)
        torch.maximum(highest, value, out=highest)
    return classes


def probabilities_of(logits: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Return probabilities (K, *S) of logits (K, *S)."""
    return logits.softmax(dim=0) if activation == "softmax" else logits.sigmoid()


def class_probabilities(chunk: OutputChunk, activation: Activation, classes: int) -> OutputChunk:
    """Return a chunk of logits with weights with the probabilities of its first channels, the classes.

    The further channels, the maps of a dense head, become their means.
    """
    if len(chunk.tensor) == classes:
        return chunk_probabilities(chunk, activation)
    probabilities = chunk_probabilities(chunk.channels(0, classes), activation).tensor
    return chunk.with_tensor(torch.cat([probabilities, chunk.channels(classes).means]))


def chunk_probabilities(chunk: OutputChunk, activation: Activation) -> OutputChunk:
    """Return the probabilities of a chunk of logits with weights.

    Where every window was skipped, the first class is certain; with a sigmoid, no region is present.
    """
    probabilities = probabilities_of(chunk.means, activation)
    if chunk.weights is not None and bool((skipped := chunk.weights == 0).any()):
        probabilities.masked_fill_(skipped, 0.0)
        if activation == "softmax":
            probabilities[0].masked_fill_(skipped, 1.0)
    return chunk.with_tensor(probabilities)
