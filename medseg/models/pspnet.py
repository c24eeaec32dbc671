"""PSPNet in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn

from medseg.model_output import Output
from medseg.models.backbones import BackboneConfig, ResNetConfig
from medseg.models.base import ArchitectureConfig, BackboneNetwork, fcn_head
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.padding import resize_linear
from medseg.task import Task


class PSPNetConfig(ArchitectureConfig):
    """Pyramid scene parsing network (Zhao et al. 2017, arXiv:1612.01105); the defaults are semseg's.

    The settings of segmentation_models.pytorch are ``backbone=ResNetConfig(stages=2), output_stride=null,
    bin_channels=128, norm_single_bin=False, fuse_kernel=1, score_kernel=3, dropout=0.2, auxiliary=False``.

    Attributes:
        backbone: settings of the backbone; its last feature map is pooled.
        output_stride: where strides become dilations; None: nowhere.
        bins: sizes of the pooled grids.
        bin_channels: of each grid; None: the feature map's channels divided by the number of bins.
        norm_single_bin: put a norm after the 1×1 grid's convolution; otherwise the convolution has a bias.
        channels: of the fused features.
        fuse_kernel: width of the second-last convolution.
        score_kernel: width of the last convolution.
        dropout: probability of setting a channel to zero before the last convolution.
        auxiliary: add an auxiliary head on the second-last feature map, used in training.
        align_corners: how grids and logits are interpolated; if true, sizes of 8k + 1 fit exactly.
    """

    paper: ClassVar[str] = "Zhao et al. 2017, arXiv:1612.01105"

    name: Literal["pspnet"] = "pspnet"
    backbone: BackboneConfig = ResNetConfig(deep_stem=(64, 64, 128), first_dilation="full")
    output_stride: PositiveInt | None = 8
    bins: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 3, 6)
    bin_channels: PositiveInt | None = None
    norm_single_bin: bool = True
    channels: PositiveInt = 512
    fuse_kernel: Literal[1, 3] = 3
    score_kernel: Literal[1, 3] = 1
    dropout: float = Field(default=0.1, ge=0, lt=1)
    auxiliary: bool = True
    align_corners: bool = True

    def build(self, task: Task) -> PSPNet:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return PSPNet(self, task)


class PSPNet(BackboneNetwork):
    """PSPNet; see ``PSPNetConfig`` and ``SegmentationNetwork``."""

    def __init__(self, config: PSPNetConfig, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride, align_corners=config.align_corners)
        layers, channels = self.layers, self.backbone.channels
        each = config.bin_channels or max(1, channels[-1] // len(config.bins))
        self.ppm = PyramidPooling(
            layers,
            channels[-1],
            each,
            config.bins,
            norm_single_bin=config.norm_single_bin,
            align_corners=config.align_corners,
        )
        self.classifier = nn.Sequential(
            *layers.conv_unit(channels[-1] + each * len(config.bins), config.channels, config.fuse_kernel),
            layers.dropout(config.dropout),
            layers.conv(config.channels, task.num_classes, config.score_kernel, bias=True),
        )
        self.aux_classifier = None
        if config.auxiliary:
            inputs = channels[-2]
            self.aux_classifier = fcn_head(layers, inputs, max(1, inputs // 4), task.num_classes)

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        aux = None
        if self.training and self.aux_classifier is not None:
            aux = self.aux_classifier(features[-2])
        return Output(self.classifier(self.ppm(features[-1])), aux=aux)


class PyramidPooling(nn.Module):
    """Concatenate a feature map and its averages over grids of several sizes (Zhao et al. 2017, section 3.2).

    Shapes: (B, ``inputs``, *S) to (B, ``inputs`` + len(bins) · ``channels``, *S).
    """

    def __init__(
        self,
        layers: LayerFactory,
        inputs: int,
        channels: int,
        bins: Sequence[int],
        *,
        norm_single_bin: bool,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.features = nn.ModuleList()
        for size in bins:
            if size == 1 and not norm_single_bin:
                unit = nn.Sequential(layers.conv(inputs, channels, bias=True), nn.ReLU(inplace=True))
            else:
                unit = layers.conv_unit(inputs, channels)
            self.features.append(nn.Sequential(layers.average_to(size), *unit))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grids = [branch(x) for branch in self.features]
        size = x.shape[2:]
        return torch.cat([x, *(resize_linear(g, size, align_corners=self.align_corners) for g in grids)], dim=1)
