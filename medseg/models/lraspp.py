"""Lite reduced atrous spatial pyramid pooling, in 2D and 3D."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from medseg.config.base import Spec
from medseg.model_output import Output
from medseg.models.backbones import BackboneConfig, MobileNetV3Config
from medseg.models.base import BackboneNetwork
from medseg.models.layers.convolution import Parts, resize
from medseg.task import Task


class LRASPPConfig(Spec):
    """The head of MobileNetV3 for segmentation (Howard et al. 2019, arXiv:1905.02244, figure 10).

    Attributes:
        backbone: its last feature map and a finer one are used.
        output_stride: where strides become dilations; None: nowhere.
        low_level: index of the finer feature map among the backbone's; -3 has stride 8.
        channels: of the reduced features.
    """

    name: Literal["lraspp"] = "lraspp"
    backbone: BackboneConfig = MobileNetV3Config(tap="first")
    output_stride: PositiveInt | None = 16
    low_level: int = -3
    channels: PositiveInt = 128

    def build(self, task: Task) -> LRASPP:
        """The network for a task. Raises: ConfigError as the backbone."""
        return LRASPP(self, task)


class LRASPP(BackboneNetwork):
    """The network of an ``LRASPPConfig``; see ``DenseNetwork``. Keys of the head are torchvision's."""

    def __init__(self, config: LRASPPConfig, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride)
        self.low_level = config.low_level
        low, high = self.backbone.channels[config.low_level], self.backbone.channels[-1]
        self.classifier = LRASPPHead(self.parts, low, high, config.channels, task.num_classes)

    def scores(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        return Output(self.classifier(features[self.low_level], features[-1]))


class LRASPPHead(nn.Module):
    """Scores from coarse features weighted by their global average, plus scores from finer ones.

    Shapes: low (B, ``low``, *S), high (B, ``high``, *S') to (B, ``classes``, *S).
    """

    def __init__(self, parts: Parts, low: int, high: int, channels: int, classes: int) -> None:
        super().__init__()
        self.cbr = parts.unit(high, channels)
        self.scale = nn.Sequential(parts.average_to(1), parts.conv(high, channels), nn.Sigmoid())
        self.low_classifier = parts.conv(low, classes, bias=True)
        self.high_classifier = parts.conv(channels, classes, bias=True)

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        x = self.cbr(high) * self.scale(high)
        return self.low_classifier(low) + self.high_classifier(resize(x, low.shape[2:]))
