"""LR-ASPP (lite reduced atrous spatial pyramid pooling) in 2D and 3D."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import nn

from medseg.model_output import Output
from medseg.models.backbones import BackboneConfig, MobileNetV3Config
from medseg.models.base import ArchitectureConfig, BackboneNetwork
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.padding import resize_linear
from medseg.task import Task


class LRASPPConfig(ArchitectureConfig):
    """LR-ASPP, the segmentation head of MobileNetV3 (Howard et al. 2019, arXiv:1905.02244, figure 10).

    Attributes:
        backbone: settings of the backbone; its last feature map and a finer one are used.
        output_stride: where strides become dilations; None: nowhere.
        low_level: index of the finer feature map among the backbone's; -3 has stride 8.
        channels: of the reduced features.
    """

    paper: ClassVar[str] = "Howard et al. 2019, arXiv:1905.02244, figure 10"

    name: Literal["lraspp"] = "lraspp"
    backbone: BackboneConfig = MobileNetV3Config(tap="first")
    output_stride: PositiveInt | None = 16
    low_level: int = -3
    channels: PositiveInt = 128

    def build(self, task: Task) -> LRASPP:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return LRASPP(self, task)


class LRASPP(BackboneNetwork):
    """LR-ASPP; see ``LRASPPConfig`` and ``SegmentationNetwork``.

    State-dict keys of the head are torchvision's.
    """

    def __init__(self, config: LRASPPConfig, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride)
        self.low_level = config.low_level
        low, high = self.backbone.channels[config.low_level], self.backbone.channels[-1]
        self.classifier = LRASPPHead(self.layers, low, high, config.channels, task.num_classes)

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        return Output(self.classifier(features[self.low_level], features[-1]))


class LRASPPHead(nn.Module):
    """Logits of coarse features weighted by their global average, plus logits of finer features.

    Shapes: low (B, ``low``, *S), high (B, ``high``, *S') to (B, ``classes``, *S).
    """

    def __init__(self, layers: LayerFactory, low: int, high: int, channels: int, classes: int) -> None:
        super().__init__()
        self.cbr = layers.conv_unit(high, channels)
        self.scale = nn.Sequential(layers.average_to(1), layers.conv(high, channels), nn.Sigmoid())
        self.low_classifier = layers.conv(low, classes, bias=True)
        self.high_classifier = layers.conv(channels, classes, bias=True)

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        x = self.cbr(high) * self.scale(high)
        return self.low_classifier(low) + self.high_classifier(resize_linear(x, low.shape[2:]))
