"""PSPNet in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn

from medseg.config.base import Spec
from medseg.model_output import Output
from medseg.models.backbones import BackboneConfig, ResNetConfig
from medseg.models.base import BackboneNetwork, fcn_head
from medseg.models.layers.convolution import Parts, resize
from medseg.task import Task


class PSPNetConfig(Spec):
    """Pyramid scene parsing network (Zhao et al. 2017, arXiv:1612.01105); the defaults are semseg's.

    segmentation_models.pytorch's has ``backbone=ResNetConfig(stages=2), output_stride=null,
    bin_channels=128, norm_single_bin=False, fuse_kernel=1, score_kernel=3, dropout=0.2, auxiliary=False``.

    Attributes:
        backbone: dilated to ``output_stride``; the last feature map is pooled.
        output_stride: where strides become dilations; None: nowhere.
        bins: sizes of the pooled grids.
        bin_channels: of each of them; None: the feature map's channels over the number of bins.
        norm_single_bin: whether the 1×1 grid has a norm; without, its convolution has a bias.
        channels: of the fused features.
        fuse_kernel, score_kernel: widths of the last two convolutions.
        dropout: before the last one.
        auxiliary: add a second head on the feature map before the last, used in training.
        align_corners: how grids and scores are interpolated; with it, sizes of 8k + 1 fit exactly.
    """

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
        """The network for a task. Raises: ConfigError as the backbone."""
        return PSPNet(self, task)


class PSPNet(BackboneNetwork):
    """The network of a ``PSPNetConfig``; see ``DenseNetwork``."""

    def __init__(self, config: PSPNetConfig, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride, align_corners=config.align_corners)
        parts, channels = self.parts, self.backbone.channels
        each = config.bin_channels or max(1, channels[-1] // len(config.bins))
        self.ppm = PyramidPooling(
            parts,
            channels[-1],
            each,
            config.bins,
            norm_single_bin=config.norm_single_bin,
            align_corners=config.align_corners,
        )
        self.classifier = nn.Sequential(
            *parts.unit(channels[-1] + each * len(config.bins), config.channels, config.fuse_kernel),
            parts.dropout(config.dropout),
            parts.conv(config.channels, task.num_classes, config.score_kernel, bias=True),
        )
        self.aux_classifier = None
        if config.auxiliary:
            inputs = channels[-2]
            self.aux_classifier = fcn_head(parts, inputs, max(1, inputs // 4), task.num_classes)

    def scores(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        aux = None
        if self.training and self.aux_classifier is not None:
            aux = self.aux_classifier(features[-2])
        return Output(self.classifier(self.ppm(features[-1])), aux=aux)


class PyramidPooling(nn.Module):
    """The map and its averages over grids of several sizes (Zhao et al. 2017, section 3.2).

    Shapes: (B, ``inputs``, *S) to (B, ``inputs`` + len(bins) · ``channels``, *S).
    """

    def __init__(
        self,
        parts: Parts,
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
                unit = nn.Sequential(parts.conv(inputs, channels, bias=True), nn.ReLU(inplace=True))
            else:
                unit = parts.unit(inputs, channels)
            self.features.append(nn.Sequential(parts.average_to(size), *unit))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grids = [branch(x) for branch in self.features]
        size = x.shape[2:]
        return torch.cat([x, *(resize(g, size, align_corners=self.align_corners) for g in grids)], dim=1)
