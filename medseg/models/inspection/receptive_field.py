"""What a voxel of a network's output sees of the image: the receptive field, and the output stride.

A network is run on coordinates in place of gray values, so that each output value says how far to the right it
sees; a second sample with reversed coordinates says how far to the left. Nothing is estimated: the field
follows from strides, widths and dilations as they are run, on one channel, in a fraction of a second, and the
weights need no memory (they may be on torch's meta device).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from medseg.model_output import logits_of
from medseg.models.inspection.receptive_field_tracer import Coordinates, thin

LENGTHS = (1024, 8192)
"""Of the image's long axis, tried in turn; a field that reaches the end of the last is the whole image."""
_ACROSS = 32  # length of its other axes
_ASKED = 512  # output positions looked at: a common multiple of all strides


class Reach(NamedTuple):
    """How far a network sees along one axis.

    Attributes:
        smallest, largest: the receptive field, voxels, of the output voxels that see least and most (they
            differ by their place on the coarser grids); None where they see all of the image.
        stride: of the coarsest feature map.
    """

    smallest: int | None
    largest: int | None
    stride: int


class Spans(NamedTuple):
    """Of each position of an output along one axis, the first and the last voxel of the image that any value
    there sees (1 is the image's first), (N,) each; and the stride of the coarsest feature map.
    """

    first: torch.Tensor
    last: torch.Tensor
    stride: int


def spans(
    network: nn.Module, size: Sequence[int], channels: int, *, part: str | None = None, axis: int = -1
) -> Spans:
    """What the logits of ``network`` see along ``axis`` of images of ``size``, or its ``part`` of that name.

    Norms do not count, though an instance or group norm looks at the whole image.
    Raises: NotImplementedError if the network has an operation without a rule; ValueError as the network.
    """
    axis = axis % len(size) - len(size)
    length = size[axis]
    places = torch.arange(1, length + 1, dtype=torch.float32)  # 0 is what no voxel of the image has
    shape = [length if i == axis else 1 for i in range(-len(size), 0)]
    both = torch.stack((places, places.flip(0))).view(2, 1, *shape).expand(2, channels, *size)
    seen: list[torch.Tensor] = []
    watched = network.get_submodule(part) if part is not None else network
    hook = watched.register_forward_hook(lambda _, __, out: seen.append(logits_of(out)))
    strides = [1]
    Coordinates.watch = lambda x: strides.append(_stride(x, axis, length))
    try:
        with torch.no_grad():
            network.eval()(both.as_subclass(Coordinates))
    finally:
        Coordinates.watch = None
        hook.remove()
    right, left = _line(seen[0], axis)
    return Spans(length + 1 - left, right, max(strides))


def reach(network: nn.Module, size: Sequence[int], channels: int, *, part: str | None = None) -> Reach:
    """How far the positions in the middle of an image see; arguments and errors as of ``spans``."""
    first, last, stride = spans(network, size, channels, part=part)
    count = len(first) // 2 if len(first) < 2 * _ASKED else _ASKED
    middle = slice((len(first) - count) // 2, (len(first) + count) // 2)
    first, last = first[middle], last[middle]
    if bool((first == 1).any()) or bool((last == size[-1]).any()):
        return Reach(None, None, stride)
    fields = last - first + 1
    return Reach(int(fields.min()), int(fields.max()), stride)


def network_reach(network: nn.Module, spatial_dims: int, channels: int, most: int | None = None) -> Reach:
    """How far the logits of ``network`` see along its last axis; ``most`` is the longest image it takes."""
    if most is not None:
        return reach(network, (most,) * spatial_dims, channels)
    found = Reach(None, None, 1)
    for length in LENGTHS:
        found = reach(network, (_ACROSS,) * (spatial_dims - 1) + (length,), channels)
        if found.largest is not None:
            break
    return found


def _stride(x: torch.Tensor, axis: int, length: int) -> int:
    """Voxels of the image from one position of a feature map to the next: how far its coordinates move on, or
    what the sizes say where those stand still or jump (behind a global pooling).
    """
    right = _line(x, axis)[0]
    by_size = length / len(right)
    first, last = len(right) // 4, 3 * len(right) // 4
    moved = float(right[last] - right[first]) / max(last - first, 1)
    return max(1, round(moved if 0.75 < moved / by_size < 1.25 else by_size))


def _line(x: torch.Tensor, axis: int) -> torch.Tensor:
    """(2, N): the furthest coordinates along ``axis``."""
    plain = x.as_subclass(torch.Tensor)
    plain = thin(plain) if plain.ndim > 3 else plain
    others = [i for i in range(1, plain.ndim) if i != axis % plain.ndim]
    return plain.amax(others)
