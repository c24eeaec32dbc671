"""Feature pyramid network for segmentation, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import nn

from medseg.model_output import Output
from medseg.models.backbones import BackboneConfig, ResNetConfig
from medseg.models.base import ArchitectureConfig, BackboneNetwork
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.norms import GroupNorm
from medseg.models.layers.padding import resize_linear
from medseg.task import Task


class FPNConfig(ArchitectureConfig):
    """Semantic FPN (Kirillov et al. 2019, arXiv:1901.02446, section 3).

    segmentation_models.pytorch uses ``align_corners=True``.

    Attributes:
        backbone: settings of the backbone; its last four feature maps are used.
        pyramid_channels: of the lateral and top-down features.
        channels: of the features that are summed before the classifier.
        norm_groups: maximum number of groups of the group norms.
        dropout: probability of setting a channel to zero before the classifier.
        align_corners: how features and logits are interpolated.
    """

    paper: ClassVar[str] = "Kirillov et al. 2019, arXiv:1901.02446, section 3"

    name: Literal["fpn"] = "fpn"
    backbone: BackboneConfig = ResNetConfig()
    pyramid_channels: PositiveInt = 256
    channels: PositiveInt = 128
    norm_groups: PositiveInt = 32
    dropout: float = Field(default=0.2, ge=0, lt=1)
    align_corners: bool = False

    def build(self, task: Task) -> FPN:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return FPN(self, task)


class FPN(BackboneNetwork):
    """Semantic FPN; see ``FPNConfig`` and ``SegmentationNetwork``."""

    def __init__(self, config: FPNConfig, task: Task) -> None:
        super().__init__(task, config.backbone, align_corners=config.align_corners)
        inputs = self.backbone.channels[:-5:-1]  # coarsest first
        self.lateral = nn.ModuleList(self.layers.pointwise(count, config.pyramid_channels) for count in inputs)
        self.branches = nn.ModuleList(
            _branch(self.layers, config, max(1, len(inputs) - 1 - level)) for level in range(len(inputs))
        )
        self.dropout = self.layers.dropout(config.dropout)
        self.score = self.layers.pointwise(config.channels, task.num_classes)

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)[:-5:-1]
        sizes = [feature.shape[2:] for feature in features]
        pyramid = merge_top_down([lateral(x) for lateral, x in zip(self.lateral, features, strict=True)])
        total: torch.Tensor | None = None
        for level, (branch, x) in enumerate(zip(self.branches, pyramid, strict=True)):
            assert isinstance(branch, nn.Sequential)
            targets = sizes[level + 1 :] or [sizes[level]]
            for unit, size in zip(branch, targets, strict=True):
                x = resize_linear(unit(x), size, align_corners=self.align_corners)
            total = x if total is None else total + x
        assert total is not None
        return Output(self.score(self.dropout(total)))


def merge_top_down(laterals: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Add to each feature map the enlarged sum of the coarser ones.

    Source: Lin et al. 2017, arXiv:1612.03144, figure 3.

    Args:
        laterals: (B, C, *S) of each level, coarsest first.
    """
    merged: list[torch.Tensor] = []
    for lateral in laterals:
        if merged:
            lateral = lateral + F.interpolate(merged[-1], size=lateral.shape[2:], mode="nearest")
        merged.append(lateral)
    return merged


def _branch(layers: LayerFactory, config: FPNConfig, count: int) -> nn.Sequential:
    """Create ``count`` convolutions with group norm; ``raw_logits`` interpolates after each of them."""
    branch = nn.Sequential()
    inputs = config.pyramid_channels
    for _ in range(count):
        norm = GroupNorm(config.norm_groups, config.channels)
        conv = layers.conv(inputs, config.channels, 3)
        branch.append(nn.Sequential(conv, norm, nn.ReLU(inplace=True)))
        inputs = config.channels
    return branch
