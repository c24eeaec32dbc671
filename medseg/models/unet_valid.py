"""The first U-Net, of unpadded convolutions, in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from monai.networks.layers.factories import Conv, Pool
from pydantic import Field, PositiveInt
from torch import nn

from medseg.config.base import Spec
from medseg.models.base import check_image
from medseg.models.layers.convolution import Parts
from medseg.models.layers.norms import NormName
from medseg.models.layers.padding import crop_end
from medseg.task import Task

_LOST = 4  # voxels that two unpadded 3×3 convolutions take from an axis


class UNetValidConfig(Spec):
    """U-Net of unpadded convolutions (Ronneberger et al. 2015, arXiv:1505.04597; in 3D, Çiçek et al. 2016,
    arXiv:1606.06650).

    In 3D the paper's has ``channels=(64, 128, 256, 512), widen="before", norm="batch", dropout=0``.
    The logits of a voxel see nothing but the image, mirrored beyond its borders, so that they do not depend
    on how it was cut into tiles (figure 2).

    Attributes:
        channels: of each level; their number is the number of levels.
        widen: where a level's channels grow: in the first convolution ``after`` a pooling (2015), or in the
            last one ``before`` it (2016), whose first one then has half the channels.
        norm: kind of norm after each 3×3 convolution; None: none, as in 2015. Instance and group norms see
            the whole tile.
        norm_groups: groups of a ``group`` norm, at most.
        dropout: probability of setting a value to zero, at the end of the contracting path: after the last
            two levels (section 3.1; where, as in the authors' model file).
    """

    name: Literal["unet_valid"] = "unet_valid"
    channels: tuple[PositiveInt, ...] = Field(default=(64, 128, 256, 512, 1024), min_length=2)
    widen: Literal["after", "before"] = "after"
    norm: NormName | None = None
    norm_groups: PositiveInt = 32
    dropout: float = Field(default=0.5, ge=0, lt=1)

    def build(self, task: Task) -> UNetValid:
        """The network for a task."""
        return UNetValid(self, task)


class UNetValid(nn.Module):
    """The network of a ``UNetValidConfig``.

    Shapes: image (B, C, *S) float to logits (B, K, *S), for any S: the image is mirrored about its outermost
    voxels by ``border``, and at its end to the next size that fits, as often as that takes. Tiles at
    multiples of ``stride`` have the whole image's logits, but for the ``border`` voxels at their edges.
    ``valid`` mirrors nothing. Raises: ValueError if the image has other axes or channels.

    Attributes:
        stride: total stride of the lowest level.
        border: voxels that are lost at either end of each axis: 92 with five levels.
    """

    def __init__(self, config: UNetValidConfig, task: Task) -> None:
        super().__init__()
        dims, channels = task.spatial_dims, config.channels
        parts = Parts(dims, config.norm or "batch", config.norm_groups)
        self.in_channels, self.spatial_dims = task.in_channels, dims
        self.stride = 2 ** (len(channels) - 1)
        self.border = (
            6 * self.stride - _LOST
        )  # half of what each level loses, times its stride, summed over both ways

        self.encoder = nn.ModuleList()
        inputs = task.in_channels
        for level, count in enumerate(channels):
            first = max(1, count // 2) if config.widen == "before" else count
            block = _block(parts, (inputs, first, count), normed=config.norm is not None)
            if config.dropout and level >= len(channels) - 2:
                block.append(nn.Dropout(config.dropout))
            self.encoder.append(block)
            inputs = count
        self.pool = Pool["max", dims](kernel_size=2, stride=2)
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for own, below in pairwise(channels):
            risen = below if config.widen == "before" else own
            self.up.append(Conv["convtrans", dims](below, risen, kernel_size=2, stride=2))
            block = _block(parts, (risen + own, own, own), normed=config.norm is not None)
            self.decoder.append(block)
        self.head = Conv["conv", dims](channels[0], task.num_classes, kernel_size=1)
        _initialize(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        check_image(image, self.in_channels, self.spatial_dims)
        size = tuple(image.shape[2:])
        for axis, length in enumerate(size, start=2):
            after = self.output_size(length) - length + self.border
            image = mirrored(image, axis, self.border, after)
        return crop_end(self._logits(image), size)

    def valid(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of the image's inner part, without mirroring: (B, C, *S) to (B, K, *S - 2 · ``border``).

        Raises: ValueError if a size does not fit, naming the next one that does.
        """
        check_image(image, self.in_channels, self.spatial_dims)
        size = tuple(image.shape[2:])
        fitting = tuple(self.output_size(length - 2 * self.border) + 2 * self.border for length in size)
        if size != fitting:
            raise ValueError(
                f"unpadded convolutions and poolings do not go evenly into an image of {size}: give {fitting}"
            )
        return self._logits(image)

    def output_size(self, least: int) -> int:
        """The shortest axis of logits that holds ``least`` voxels: stride · b - 4 (stride - 1), where b ≥ 1 is
        the length at the bottom.
        """
        lost = _LOST * (self.stride - 1)
        return self.stride * -(-(max(least, 1) + lost) // self.stride) - lost

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        features: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            features.append(x)
        for level in reversed(range(len(self.decoder))):
            x = self.up[level](x)
            x = self.decoder[level](torch.cat((_center(features[level], x.shape[2:]), x), dim=1))
        return self.head(x)


def mirrored(image: torch.Tensor, axis: int, before: int, after: int) -> torch.Tensor:
    """``image`` longer by ``before`` and ``after`` voxels along ``axis``, mirrored about its outermost voxels
    again and again; an axis of one voxel is repeated.
    """
    length = image.shape[axis]
    period = max(2 * (length - 1), 1)
    position = torch.arange(-before, length + after, device=image.device).remainder(period)
    return image.index_select(axis, torch.minimum(position, period - position) if length > 1 else position)


def _block(parts: Parts, channels: Sequence[int], *, normed: bool) -> nn.Sequential:
    """Unpadded 3×3(×3) convolutions from each number of channels to the next, each with norm and rectifier."""
    block = nn.Sequential()
    for inputs, outputs in pairwise(channels):
        block.append(Conv["conv", parts.spatial_dims](inputs, outputs, kernel_size=3))
        if normed:
            block.append(parts.normalization(outputs))
        block.append(nn.ReLU(inplace=True))
    return block


def _center(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The middle of ``x`` (B, C, *S'), as a view."""
    for axis, length in enumerate(size, start=2):
        x = x.narrow(axis, (x.shape[axis] - length) // 2, length)
    return x


def _initialize(network: nn.Module) -> None:
    """Normal weights of deviation √(2 / N), N being what goes into one value, and zero biases (section 3)."""
    for module in network.modules():
        if not isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            continue
        taps = 1 if module.transposed else math.prod(module.kernel_size)  # kernel = stride: one tap a value
        nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * taps)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
