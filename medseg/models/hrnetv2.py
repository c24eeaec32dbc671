"""HRNetV2's segmentation network in 2D and 3D."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from medseg.config.base import Spec
from medseg.model_output import Output
from medseg.models.backbones import HRNetConfig
from medseg.models.base import BackboneNetwork
from medseg.models.layers.convolution import initialize_scores, resize
from medseg.task import Task


class HRNetV2Config(Spec):
    """All branches of an HRNet brought to the finest one's size and joined (Wang et al. 2020,
    arXiv:1908.07919, figure 4 b).

    Attributes:
        backbone: its ``align_corners`` holds for the joining too.
        final_kernel: width of the last convolution.
    """

    name: Literal["hrnetv2"] = "hrnetv2"
    backbone: HRNetConfig = HRNetConfig()
    final_kernel: Literal[1, 3] = 1

    def build(self, task: Task) -> HRNetV2:
        """The network for a task. Raises: ConfigError as the backbone."""
        return HRNetV2(self, task)


class HRNetV2(BackboneNetwork):
    """The network of an ``HRNetV2Config``; see ``DenseNetwork``."""

    def __init__(self, config: HRNetV2Config, task: Task) -> None:
        super().__init__(task, config.backbone, align_corners=config.backbone.align_corners)
        channels = sum(self.backbone.channels)
        score = self.parts.conv(channels, task.num_classes, config.final_kernel, bias=True)
        self.last_layer = nn.Sequential(
            self.parts.conv(channels, channels, bias=True),
            self.parts.normalization(channels),
            nn.ReLU(inplace=True),
            score,
        )
        initialize_scores(score, 0.001)

    def scores(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        size = features[0].shape[2:]
        joined = [resize(feature, size, align_corners=self.align_corners) for feature in features]
        return Output(self.last_layer(torch.cat(joined, dim=1)))
