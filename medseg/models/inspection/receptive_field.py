"""Receptive field and output stride of a network, computed exactly.

The network runs on coordinates instead of gray values, so that each output value holds the largest coordinate
it depends on; a second sample with reversed coordinates gives the smallest. The result follows from the
strides, widths and dilations that are actually run, on one channel, in a fraction of a second. Weights are not
used and may be on PyTorch's meta device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from medseg.model_output import logits_of
from medseg.models.inspection.receptive_field_tracer import Coordinates, FeatureMapTracer, single_channel

LENGTHS = (1024, 8192)
"""Lengths of the image's long axis, tried in order; a field that reaches the last one's end is unbounded."""
_ACROSS = 32  # length of the other axes
_POSITIONS = 512  # number of output positions that are evaluated: a common multiple of all strides


class ReceptiveField(NamedTuple):
    """Receptive field of a network along one axis.

    Attributes:
        smallest: in voxels, of the output voxels that see least (fields differ by the voxels' place on the
            coarser grids); None if they see the whole image.
        largest: in voxels, of the output voxels that see most; None if they see the whole image.
        stride: of the coarsest feature map.
    """

    smallest: int | None
    largest: int | None
    stride: int


class VisibleSpans(NamedTuple):
    """The voxels of the image that each output position along one axis depends on.

    Attributes:
        first: (N,) first voxel of each position, counted from 1.
        last: (N,) last voxel of each position.
        stride: of the coarsest feature map.
    """

    first: torch.Tensor
    last: torch.Tensor
    stride: int


def visible_spans(
    network: nn.Module, size: Sequence[int], channels: int, *, part: str | None = None, axis: int = -1
) -> VisibleSpans:
    """Compute which voxels of an image a network's logits depend on along one axis.

    Norms are not counted, although an instance or group norm depends on the whole image.

    Args:
        network: the network.
        size: spatial size of the image.
        channels: number of image channels.
        part: name of a part whose output is evaluated; None: the logits.
        axis: spatial axis.

    Raises:
        NotImplementedError: if the network has an operation without a rule.
        ValueError: if the network does not accept an image of ``size``.

    Example:
        >>> visible_spans(nn.Conv2d(1, 1, 3, padding=1), (4, 5), 1).last.tolist()
        [2.0, 3.0, 4.0, 5.0, 5.0]
    """
    axis = axis % len(size) - len(size)
    length = size[axis]
    coordinates = torch.arange(1, length + 1, dtype=torch.float32)  # 0 marks padding
    shape = [length if i == axis else 1 for i in range(-len(size), 0)]
    both = torch.stack((coordinates, coordinates.flip(0))).view(2, 1, *shape).expand(2, channels, *size)
    outputs: list[torch.Tensor] = []
    evaluated = network.get_submodule(part) if part is not None else network
    hook = evaluated.register_forward_hook(lambda _, __, out: outputs.append(logits_of(out)))
    strides = [1]
    tracer = FeatureMapTracer(lambda feature_map: strides.append(_stride(feature_map, axis, length)))
    try:
        with torch.no_grad(), tracer:
            network.eval()(both.as_subclass(Coordinates))
    finally:
        hook.remove()
    right, left = _largest_coordinates(outputs[0], axis)
    return VisibleSpans(length + 1 - left, right, max(strides))


def receptive_field(
    network: nn.Module, size: Sequence[int], channels: int, *, part: str | None = None
) -> ReceptiveField:
    """Compute the receptive field, along the last axis, of the output positions in the middle of an image.

    Arguments and errors are those of ``visible_spans``.
    """
    first, last, stride = visible_spans(network, size, channels, part=part)
    count = len(first) // 2 if len(first) < 2 * _POSITIONS else _POSITIONS
    middle = slice((len(first) - count) // 2, (len(first) + count) // 2)
    first, last = first[middle], last[middle]
    if bool((first == 1).any()) or bool((last == size[-1]).any()):
        return ReceptiveField(None, None, stride)
    fields = last - first + 1
    return ReceptiveField(int(fields.min()), int(fields.max()), stride)


def network_receptive_field(
    network: nn.Module, spatial_dims: int, channels: int, image_size: int | None = None
) -> ReceptiveField:
    """Compute the receptive field of a network's logits along the last axis.

    Args:
        network: the network.
        spatial_dims: 2 or 3.
        channels: number of image channels.
        image_size: the largest image that the network accepts; None: unlimited.
    """
    if image_size is not None:
        return receptive_field(network, (image_size,) * spatial_dims, channels)
    field = ReceptiveField(None, None, 1)
    for length in LENGTHS:
        field = receptive_field(network, (_ACROSS,) * (spatial_dims - 1) + (length,), channels)
        if field.largest is not None:
            break
    return field


def _stride(x: torch.Tensor, axis: int, length: int) -> int:
    """Return the number of voxels of the image between neighboring positions of a feature map.

    It follows from the coordinates, or from the sizes where the coordinates are constant or jump (after a
    global pooling).
    """
    right = _largest_coordinates(x, axis)[0]
    by_size = length / len(right)
    first, last = len(right) // 4, 3 * len(right) // 4
    moved = float(right[last] - right[first]) / max(last - first, 1)
    return max(1, round(moved if 0.75 < moved / by_size < 1.25 else by_size))


def _largest_coordinates(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the largest coordinates along ``axis``: (2, N)."""
    plain = x.as_subclass(torch.Tensor)
    plain = single_channel(plain) if plain.ndim > 3 else plain
    others = [i for i in range(1, plain.ndim) if i != axis % plain.ndim]
    return plain.amax(others)
