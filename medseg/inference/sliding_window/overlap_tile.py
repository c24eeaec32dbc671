"""Overlap-tile inference: the logits of the whole image, computed tile by tile.

Logits of a tile are kept only where its border cannot have changed them (Ronneberger et al. 2015,
arXiv:1505.04597, figure 2): as far from the border as the network's receptive field reaches, unless the border
is the image's. This is exact for networks that compute the same everywhere, shifted by their total stride: with
batch norm, not with instance norm. The image's first tiles are used to check that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.inference.sliding_window.streaming import Network, ReadBox
from medseg.models.inspection.receptive_field import visible_spans

TOLERANCE = 1e-4
"""Largest difference between two tiles' logits of one voxel, as a share of the largest logit."""

_LONG, _ACROSS = 1024, 32


@dataclass(frozen=True)
class ReceptiveField:
    """A network's receptive field.

    Attributes:
        halo: how far it reaches to either side of a voxel, voxels along each axis.
        stride: the network's total stride along each axis.
    """

    halo: tuple[int, ...]
    stride: tuple[int, ...]


def measure_receptive_field(network: nn.Module, spatial_dims: int, channels: int) -> ReceptiveField:
    """Measure a network's receptive field.

    Raises:
        ConfigError: the field covers the whole image (global pooling, attention), or cannot be measured.
    """
    halos: list[int] = []
    strides: list[int] = []
    for axis in range(spatial_dims):
        size = [_LONG if a == axis else _ACROSS for a in range(spatial_dims)]
        try:
            first, last, stride = visible_spans(network, size, channels, axis=axis)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"inference.blend=exact: the receptive field of this network cannot be measured ({error})",
                hint="Use inference.blend=gaussian.",
            ) from error
        position = torch.arange(1, len(first) + 1)
        middle = slice(_LONG // 4, 3 * _LONG // 4)
        halo = int(torch.maximum(position - first, last - position)[middle].max())
        if halo >= _LONG // 4:
            raise ConfigError(
                "inference.blend=exact: the receptive field of this network covers the whole image, or nearly",
                hint="Use inference.blend=gaussian.",
            )
        halos.append(halo)
        strides.append(stride)
    return ReceptiveField(tuple(halos), tuple(strides))


def overlap_tile_logits(
    read: ReadBox, shape: tuple[int, ...], size: tuple[int, ...], network: Network, field: ReceptiveField
) -> Iterator[OutputChunk]:
    """Compute the logits of an image (*S) tile by tile.

    Args:
        read: reads the image.
        shape: of the image.
        size: of a tile with its border.
        network: maps tiles (B, C, *tile) to logits.
        field: the network's receptive field, which determines the border.

    Yields:
        Rows of tiles along the first axis.

    Raises:
        ConfigError: tiles are too small for the border, or logits depend on the tile.
    """
    cores = [_cores(*one) for one in zip(shape, size, field.halo, field.stride, strict=True)]
    _check_tile_independence(read, shape, cores, network, field)
    for rows in cores[0]:
        band: torch.Tensor | None = None
        for others in product(*cores[1:]):
            logits = _tile_logits(read, shape, (rows, *others), network, field)
            if band is None:
                band = torch.zeros(len(logits), rows[1] - rows[0], *shape[1:], device=logits.device)
            band[(slice(None), slice(None), *(slice(*core) for core in others))] = logits
        assert band is not None
        yield OutputChunk.of_planes(band, rows[0], 0)


def _cores(length: int, size: int, halo: int, stride: int) -> list[tuple[int, int]]:
    """Split an axis into the parts that tiles keep; they begin at multiples of the stride."""
    if size >= length:
        return [(0, length)]
    border = -(-halo // stride) * stride
    step = (size - 2 * border) // stride * stride
    if step < stride:
        raise ConfigError(
            f"inference.blend=exact: tiles of {size} voxels are too small for a receptive field of {halo} "
            "voxels to either side",
            hint=f"Set inference.roi_size to at least {2 * border + stride}, better {4 * border}.",
        )
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _tile_logits(
    read: ReadBox,
    shape: tuple[int, ...],
    core: Sequence[tuple[int, int]],
    network: Network,
    field: ReceptiveField,
    shift: int = 0,
) -> torch.Tensor:
    """Return the logits (K, *core) of one tile, which begins ``shift`` strides earlier than necessary."""
    box: list[slice] = []
    kept: list[slice] = []
    for (start, stop), length, halo, stride in zip(core, shape, field.halo, field.stride, strict=True):
        border = (-(-halo // stride) + shift) * stride
        first, last = max(0, start - border), min(length, stop + border)
        if last < length:
            last = min(length, first + -(-(last - first) // stride) * stride)  # no padding within the image
        box.append(slice(first, last))
        kept.append(slice(start - first, stop - first))
    return network(read(tuple(box))[None])[0][(slice(None), *kept)].float()


def _check_tile_independence(
    read: ReadBox,
    shape: tuple[int, ...],
    cores: list[list[tuple[int, int]]],
    network: Network,
    field: ReceptiveField,
) -> None:
    """Raise ConfigError if two tiles around the same core give different logits."""
    if all(len(one) == 1 for one in cores):
        return
    core = [one[min(1, len(one) - 1)] for one in cores]  # not the image's corner, if there is another
    first, second = (_tile_logits(read, shape, core, network, field, shift) for shift in (0, 1))
    difference = float((first - second).abs().max()) / max(float(first.abs().max()), 1e-12)
    if difference > TOLERANCE:
        raise ConfigError(
            f"inference.blend=exact: this network's logits of a voxel depend on the tile (by {difference:.1%}) "
            "as with instance norm",
            hint="Use inference.blend=gaussian.",
        )
