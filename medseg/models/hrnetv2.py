"""HRNetV2's segmentation network in 2D and 3D."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from medseg.model_output import Output
from medseg.models.backbones import HRNetConfig
from medseg.models.base import ArchitectureConfig, BackboneNetwork
from medseg.models.layers.initialization import initialize_logits
from medseg.models.layers.padding import resize_linear
from medseg.task import Task


class HRNetV2Config(ArchitectureConfig):
    """HRNetV2: all branches of an HRNet, interpolated to the size of the finest one and concatenated
    (Wang et al. 2020, arXiv:1908.07919, figure 4 b).

    Attributes:
        backbone: settings of the backbone; ``align_corners`` applies to the concatenation too.
        final_kernel: width of the last convolution.
    """

    paper: ClassVar[str] = "Wang et al. 2020, arXiv:1908.07919, figure 4 b"

    name: Literal["hrnetv2"] = "hrnetv2"
    backbone: HRNetConfig = HRNetConfig()
    final_kernel: Literal[1, 3] = 1

    def build(self, task: Task) -> HRNetV2:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return HRNetV2(self, task)


class HRNetV2(BackboneNetwork):
    """HRNetV2; see ``HRNetV2Config`` and ``SegmentationNetwork``."""

    def __init__(self, config: HRNetV2Config, task: Task) -> None:
        super().__init__(task, config.backbone, align_corners=config.backbone.align_corners)
        channels = sum(self.backbone.channels)
        score = self.layers.conv(channels, task.num_classes, config.final_kernel, bias=True)
        self.last_layer = nn.Sequential(
            self.layers.conv(channels, channels, bias=True),
            self.layers.normalization(channels),
            nn.ReLU(inplace=True),
            score,
        )
        initialize_logits(score, 0.001)

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        size = features[0].shape[2:]
        joined = [resize_linear(feature, size, align_corners=self.align_corners) for feature in features]
        return Output(self.last_layer(torch.cat(joined, dim=1)))
