"""U-Net in 2D and 3D with any backbone as encoder, and the decoder that U-Net++ shares."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import nn

from medseg.errors import ConfigError
from medseg.model_output import Output
from medseg.models.backbones import Backbone, BackboneConfig, ResNetConfig
from medseg.models.base import ArchitectureConfig, BackboneNetwork
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.padding import linear_mode
from medseg.task import Task

Upsampling = Literal["nearest", "linear"]


class DecoderConfig(ArchitectureConfig):
    """Settings of the decoders on a backbone.

    Attributes:
        backbone: settings of the backbone; its feature maps are joined, coarsest first.
        channels: of the decoder's steps, coarsest first; None: 256, halved at each step.
        up: how coarser features are interpolated: ``nearest`` or ``linear`` (bilinear in 2D, trilinear in 3D).
        full_skip: join the backbone's features at the image's own size too, if it has any (a VGG, or stem
            strides of 1).
    """

    backbone: BackboneConfig = ResNetConfig(depth=34)
    channels: tuple[PositiveInt, ...] | None = None
    up: Upsampling = "nearest"
    full_skip: bool = True

    def skips(self, backbone: Backbone) -> list[int]:
        """Return the indices of the feature maps that are joined, coarsest first, without the last map."""
        indices = range(len(backbone.strides) - 1)
        return [i for i in reversed(indices) if self.full_skip or max(backbone.strides[i]) > 1]

    def widths(self, steps: int) -> tuple[int, ...]:
        """Return the channels of the decoder's steps.

        Raises:
            ConfigError: if ``channels`` has another number of entries than ``steps``.
        """
        channels = (
            tuple(max(1, 256 >> step) for step in range(steps)) if self.channels is None else self.channels
        )
        if len(channels) != steps:
            raise ConfigError(
                f"model.channels has {len(channels)} entries, but this backbone's decoder has {steps} steps",
                hint=f"Give {steps} entries.",
            )
        return channels


class BackboneUNetConfig(DecoderConfig):
    """A U-Net's decoder (Ronneberger et al. 2015, arXiv:1505.04597) on any backbone.

    segmentation_models.pytorch uses ``full_skip=False``, and ``center=True`` on a VGG.

    Inherited attributes: see ``DecoderConfig``.

    Attributes:
        center: add two convolutions on the coarsest features.
    """

    paper: ClassVar[str] = "Ronneberger et al. 2015, arXiv:1505.04597"

    name: Literal["backbone_unet"] = "backbone_unet"
    center: bool = False

    def build(self, task: Task) -> BackboneUNet:
        """Build the network. Raises: ConfigError as the backbone's ``build``, or for wrong ``channels``."""
        return BackboneUNet(self, task)


class BackboneUNet(BackboneNetwork):
    """U-Net on a backbone; see ``BackboneUNetConfig`` and ``SegmentationNetwork``."""

    def __init__(self, config: BackboneUNetConfig, task: Task) -> None:
        super().__init__(task, config.backbone)
        self.skips = config.skips(self.backbone)
        counts = [self.backbone.channels[index] for index in self.skips]
        if max(self.backbone.strides[self.skips[-1]]) > 1:
            counts.append(0)  # a last step to the image's size, without a skip
        widths = config.widths(len(counts))
        inputs = self.backbone.channels[-1]
        self.decoder = nn.Module()
        self.decoder.center = nn.Identity()
        if config.center:
            self.decoder.center = nn.Sequential(
                self.layers.conv_unit(inputs, inputs, 3), self.layers.conv_unit(inputs, inputs, 3)
            )
        self.decoder.blocks = nn.ModuleList(
            DecoderStep(self.layers, below, skip, own, config.up)
            for below, skip, own in zip((inputs, *widths[:-1]), counts, widths, strict=True)
        )
        self.score = self.layers.conv(widths[-1], task.num_classes, 3, bias=True)

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        x = self.decoder.get_submodule("center")(features[-1])
        blocks = self.decoder.get_submodule("blocks")
        assert isinstance(blocks, nn.ModuleList)
        for number, block in enumerate(blocks):
            assert isinstance(block, DecoderStep)
            if number < len(self.skips):
                x = block.join(x, features[self.skips[number]])
            else:
                x = block.enlarge(x, image.shape[2:])
        return Output(self.score(x))


class DecoderStep(nn.Module):
    """Interpolate to the next size, concatenate the skip and convolve twice.

    Shapes: (B, ``below``, *S') and a skip (B, ``skip``, *S) to (B, ``own``, *S).

    Args:
        layers: creates the layers.
        below: channels of the coarser features.
        skip: channels of the skip; 0 if there is none.
        own: output channels.
        up: how the coarser features are interpolated.
    """

    def __init__(self, layers: LayerFactory, below: int, skip: int, own: int, up: Upsampling) -> None:
        super().__init__()
        self.conv1 = layers.conv_unit(below + skip, own, 3)
        self.conv2 = layers.conv_unit(own, own, 3)
        self.mode = "nearest" if up == "nearest" else linear_mode(layers.spatial_dims)

    def join(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Compute the step with a skip."""
        return self.conv2(self.conv1(torch.cat((self._resize(x, skip.shape[2:]), skip), dim=1)))

    def enlarge(self, x: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """Compute the step without a skip, at ``size``."""
        return self.conv2(self.conv1(self._resize(x, size)))

    def _resize(self, x: torch.Tensor, size: torch.Size) -> torch.Tensor:
        return x if x.shape[2:] == size else F.interpolate(x, size=size, mode=self.mode)
