"""The original U-Net with unpadded (valid) convolutions, in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from monai.networks.layers.factories import Pool
from pydantic import Field, PositiveInt
from torch import nn

from medseg.model_output import Output
from medseg.models.base import ArchitectureConfig, SegmentationNetwork
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.norms import NormName
from medseg.models.layers.padding import crop_end
from medseg.task import Task

_LOST = 4  # voxels that an axis loses by two unpadded 3×3 convolutions


class UNetValidConfig(ArchitectureConfig):
    """U-Net with unpadded convolutions (Ronneberger et al. 2015, arXiv:1505.04597; in 3D, Çiçek et al. 2016,
    arXiv:1606.06650).

    The settings of the 3D paper are ``channels=(64, 128, 256, 512), widen="before", norm="batch",
    dropout=0``. The logits of a voxel depend only on the image, mirrored beyond its borders, and not on how it
    is cut into tiles (figure 2).

    Attributes:
        channels: of each level, at least 2 levels.
        widen: where a level's channels grow: in the first convolution ``after`` a pooling (2015), or in the
            last one ``before`` it (2016); the level's first convolution then has half the channels.
        norm: kind of norm after each 3×3 convolution; None: no norm, as in 2015. Instance and group norms
            depend on the whole tile.
        norm_groups: maximum number of groups of a ``group`` norm.
        dropout: probability of setting a value to zero after each of the two lowest levels of the encoder
            (section 3.1; the place follows the authors' model file).
    """

    paper: ClassVar[str] = (
        "Ronneberger et al. 2015, arXiv:1505.04597; in 3D, Çiçek et al. 2016, arXiv:1606.06650"
    )

    name: Literal["unet_valid"] = "unet_valid"
    channels: tuple[PositiveInt, ...] = Field(default=(64, 128, 256, 512, 1024), min_length=2)
    widen: Literal["after", "before"] = "after"
    norm: NormName | None = None
    norm_groups: PositiveInt = 32
    dropout: float = Field(default=0.5, ge=0, lt=1)

    def build(self, task: Task) -> UNetValid:
        """Build the network."""
        return UNetValid(self, task)


class UNetValid(SegmentationNetwork):
    """U-Net with unpadded convolutions; see ``UNetValidConfig``.

    Unlike other networks, it does not repeat border voxels: the image is mirrored about its outermost voxels
    by ``border``, and at its end to the next size that fits, repeatedly if necessary. Tiles at multiples of
    ``stride`` have the whole image's logits, except for the ``border`` voxels at their edges. ``valid_logits``
    does not mirror. Shapes and errors: ``SegmentationNetwork``.

    Attributes:
        stride: total stride of the lowest level.
        border: voxels lost at either end of each axis: 92 with five levels.
    """

    def __init__(self, config: UNetValidConfig, task: Task) -> None:
        super().__init__(task)
        dims, channels = task.spatial_dims, config.channels
        layers = LayerFactory(dims, config.norm or "batch", config.norm_groups)
        self.stride = 2 ** (len(channels) - 1)
        # half of the voxels that each level loses, times its stride, summed over encoder and decoder
        self.border = 6 * self.stride - _LOST

        self.encoder = nn.ModuleList()
        inputs = task.in_channels
        for level, count in enumerate(channels):
            first = max(1, count // 2) if config.widen == "before" else count
            block = _block(layers, (inputs, first, count), normed=config.norm is not None)
            if config.dropout and level >= len(channels) - 2:
                block.append(nn.Dropout(config.dropout))
            self.encoder.append(block)
            inputs = count
        self.pool = Pool["max", dims](kernel_size=2, stride=2)
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for own, below in pairwise(channels):
            risen = below if config.widen == "before" else own
            self.up.append(layers.transposed_conv(below, risen, 2))
            block = _block(layers, (risen + own, own, own), normed=config.norm is not None)
            self.decoder.append(block)
        self.head = layers.pointwise(channels[0], task.num_classes)
        _initialize(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.check_image(image)
        size = tuple(image.shape[2:])
        for axis, length in enumerate(size, start=2):
            after = self.output_size(length) - length + self.border
            image = mirror_axis(image, axis, self.border, after)
        return crop_end(self.raw_logits(image).logits, size)

    def valid_logits(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits of the image's inner part without mirroring.

        Shapes: (B, C, *S) to (B, K, *S - 2 · ``border``).

        Raises:
            ValueError: if a size does not fit; the message names the next one that does.
        """
        self.check_image(image)
        size = tuple(image.shape[2:])
        fitting = tuple(self.output_size(length - 2 * self.border) + 2 * self.border for length in size)
        if size != fitting:
            raise ValueError(
                f"an image of size {size} does not fit the unpadded convolutions and poolings; the next size "
                f"that fits is {fitting}"
            )
        return self.raw_logits(image).logits

    def output_size(self, least: int) -> int:
        """Return the smallest possible length of an axis of logits that is at least ``least``.

        Possible lengths are stride · b - 4 (stride - 1), where b ≥ 1 is the length at the lowest level.
        """
        lost = _LOST * (self.stride - 1)
        return self.stride * -(-(max(least, 1) + lost) // self.stride) - lost

    def raw_logits(self, image: torch.Tensor) -> Output:
        x = image
        features: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            features.append(x)
        for level in reversed(range(len(self.decoder))):
            x = self.up[level](x)
            x = self.decoder[level](torch.cat((_center(features[level], x.shape[2:]), x), dim=1))
        return Output(self.head(x))


def mirror_axis(image: torch.Tensor, axis: int, before: int, after: int) -> torch.Tensor:
    """Extend ``image`` by ``before`` and ``after`` voxels along ``axis``, mirrored about its outermost voxels.

    The mirroring is repeated as often as necessary; an axis of one voxel is repeated.
    """
    length = image.shape[axis]
    period = max(2 * (length - 1), 1)
    position = torch.arange(-before, length + after, device=image.device).remainder(period)
    return image.index_select(axis, torch.minimum(position, period - position) if length > 1 else position)


def _block(layers: LayerFactory, channels: Sequence[int], *, normed: bool) -> nn.Sequential:
    """Create unpadded 3×3(×3) convolutions from each number of channels to the next, with norm and ReLU."""
    block = nn.Sequential()
    for inputs, outputs in pairwise(channels):
        block.append(layers.unpadded_conv(inputs, outputs, 3))
        if normed:
            block.append(layers.normalization(outputs))
        block.append(nn.ReLU(inplace=True))
    return block


def _center(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return the central part of ``x`` (B, C, *S'), as a view."""
    for axis, length in enumerate(size, start=2):
        x = x.narrow(axis, (x.shape[axis] - length) // 2, length)
    return x


def _initialize(network: nn.Module) -> None:
    """Draw normal weights of standard deviation √(2 / N), N inputs per value, and zero biases (section 3)."""
    for module in network.modules():
        if not isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            continue
        taps = 1 if module.transposed else math.prod(module.kernel_size)  # kernel = stride: one tap per value
        nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * taps)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
