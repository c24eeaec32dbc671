"""Overlap-tile inference: what the network would say of the whole image at once, in tiles.

A tile's scores are kept only where its border cannot have changed them (Ronneberger et al. 2015,
arXiv:1505.04597, figure 2): as far from it as the network sees, unless the border is the image's own. That is
exact for networks that do the same everywhere, shifted by their total stride: with batch norm, not instance
norm. Whether this one does is tried out on the image's first tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.inference.sliding_window.ring_accumulator import Planes
from medseg.inference.sliding_window.streaming import Predict, Read
from medseg.models.inspection.receptive_field import spans

TOLERANCE = 1e-4
"""Largest difference between two tiles' scores of one voxel, as a share of the largest score."""

_LONG, _ACROSS = 1024, 32


@dataclass(frozen=True)
class Reach:
    """How far a network sees to either side, voxels along each axis, and its total strides."""

    halo: tuple[int, ...]
    stride: tuple[int, ...]


def reach_of(network: nn.Module, spatial_dims: int, channels: int) -> Reach:
    """How far ``network`` sees.

    Raises: ConfigError if it looks at the whole image (global pooling, attention), or this cannot be known.
    """
    halos: list[int] = []
    strides: list[int] = []
    for axis in range(spatial_dims):
        size = [_LONG if a == axis else _ACROSS for a in range(spatial_dims)]
        try:
            first, last, stride = spans(network, size, channels, axis=axis)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"inference.blend=exact: how far this network sees is not known ({error})"
            ) from error
        place = torch.arange(1, len(first) + 1)
        middle = slice(_LONG // 4, 3 * _LONG // 4)
        halo = int(torch.maximum(place - first, last - place)[middle].max())
        if halo >= _LONG // 4:
            raise ConfigError(
                "inference.blend=exact: this network sees the whole image, or nearly; use gaussian windows"
            )
        halos.append(halo)
        strides.append(stride)
    return Reach(tuple(halos), tuple(strides))


def exact_planes(
    read: Read, shape: tuple[int, ...], size: tuple[int, ...], predict: Predict, reach: Reach
) -> Iterator[Planes]:
    """Scores of an image (*S), tile by tile, as rows of tiles along the first axis.

    ``size`` is that of the tiles' images; their scores are kept without the border that ``reach`` asks for.
    Raises: ConfigError if the tiles are too small for it, or the network is not the same everywhere.
    """
    cores = [_cores(*one) for one in zip(shape, size, reach.halo, reach.stride, strict=True)]
    _refuse_uneven(read, shape, cores, predict, reach)
    for rows in cores[0]:
        band: torch.Tensor | None = None
        for others in product(*cores[1:]):
            scores = _tile(read, shape, (rows, *others), predict, reach)
            if band is None:
                band = torch.zeros(len(scores), rows[1] - rows[0], *shape[1:], device=scores.device)
            band[(slice(None), slice(None), *(slice(*core) for core in others))] = scores
        assert band is not None
        yield Planes(rows[0], 0, band, torch.ones(band.shape[1:], device=band.device))


def _cores(length: int, size: int, halo: int, stride: int) -> list[tuple[int, int]]:
    """The parts of an axis that tiles keep; they begin at multiples of the stride."""
    if size >= length:
        return [(0, length)]
    border = -(-halo // stride) * stride
    step = (size - 2 * border) // stride * stride
    if step < stride:
        raise ConfigError(
            f"inference.blend=exact: tiles of {size} voxels are too small for a network that sees {halo} to "
            f"either side; set inference.roi_size to at least {2 * border + stride}, better {4 * border}"
        )
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _tile(
    read: Read,
    shape: tuple[int, ...],
    core: Sequence[tuple[int, int]],
    predict: Predict,
    reach: Reach,
    shift: int = 0,
) -> torch.Tensor:
    """Scores (K, *core) of one tile, whose image begins ``shift`` strides earlier than it need."""
    box: list[slice] = []
    kept: list[slice] = []
    for (start, stop), length, halo, stride in zip(core, shape, reach.halo, reach.stride, strict=True):
        border = (-(-halo // stride) + shift) * stride
        first, last = max(0, start - border), min(length, stop + border)
        if last < length:
            last = min(length, first + -(-(last - first) // stride) * stride)  # no padding within the image
        box.append(slice(first, last))
        kept.append(slice(start - first, stop - first))
    return predict(read(tuple(box))[None])[0][(slice(None), *kept)].float()


def _refuse_uneven(
    read: Read, shape: tuple[int, ...], cores: list[list[tuple[int, int]]], predict: Predict, reach: Reach
) -> None:
    """Raises: ConfigError if two tiles about the same core disagree."""
    if all(len(one) == 1 for one in cores):
        return
    core = [one[min(1, len(one) - 1)] for one in cores]  # not the image's own corner, where there is another
    first, second = (_tile(read, shape, core, predict, reach, shift) for shift in (0, 1))
    difference = float((first - second).abs().max()) / max(float(first.abs().max()), 1e-12)
    if difference > TOLERANCE:
        raise ConfigError(
            f"inference.blend=exact: this network's scores of a voxel depend on the tile it lies in (by "
            f"{difference:.1%}), as those of networks with instance norm do; use gaussian windows"
        )
