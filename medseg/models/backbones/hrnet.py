"""HRNet in 2D and 3D: branches of several resolutions side by side, exchanging features."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from medseg.models.backbones.common import Backbone, BackboneSpec, repeated
from medseg.models.backbones.resnet import BasicBlock, Bottleneck
from medseg.models.layers.convolution import (
    Parts,
    PerAxis,
    Steps,
    initialize_fan_out,
    per_axis,
    product,
    resize,
    scaled,
)


class HRNetConfig(BackboneSpec):
    """High-resolution network (Wang et al. 2020, arXiv:1908.07919), with the official keys.

    Feature maps: of the four branches, at a quarter of the image's size and below.

    Attributes:
        branch_width: channels of the finest branch: 18, 32 or 48 in the paper; each further one has twice
            as many.
        modules: exchange modules of the stages with 2, 3 and 4 branches.
        blocks: residual blocks of each branch in a module.
        stem_strides: of the two convolutions of the stem; (1, 1) for small scans.
        branch_strides: from each branch to the next coarser one: a number, or one an axis.
        align_corners: how branches are interpolated to each other's size; the official configurations vary.
    """

    name: Literal["hrnet"] = "hrnet"
    branch_width: PositiveInt = 18
    modules: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 4, 3)
    blocks: PositiveInt = 4
    stem_strides: tuple[PerAxis, PerAxis] = (2, 2)
    branch_strides: tuple[PerAxis, PerAxis, PerAxis] = (2, 2, 2)
    align_corners: bool = False

    def build(self, spatial_dims: int, in_channels: int, output_stride: int | None = None) -> HRNet:
        """The backbone. Raises: ConfigError if a stride has other axes, or ``output_stride`` is given."""
        network = HRNet(self, spatial_dims, in_channels)
        network.set_output_stride(output_stride)
        return network


class HRNet(Backbone):
    """The backbone of an ``HRNetConfig``; see ``Backbone``. Names and order are the official ones."""

    def __init__(self, config: HRNetConfig, spatial_dims: int, in_channels: int) -> None:
        super().__init__()
        parts = Parts(spatial_dims, config.norm, config.norm_groups)
        self.checkpointing = config.checkpointing
        self.minimum_size = (1,) * spatial_dims
        stems = [per_axis("backbone.stem_strides", value, spatial_dims) for value in config.stem_strides]
        steps = [per_axis("backbone.branch_strides", value, spatial_dims) for value in config.branch_strides]
        self.channels = tuple(scaled(config.branch_width * 2**level, config.width) for level in range(4))
        self.strides = _totals(product(*stems), steps)

        stem, planes = scaled(64, config.width), scaled(64, config.width)
        self.conv1, self.bn1 = parts.conv(in_channels, stem, 3, stems[0]), parts.normalization(stem)
        self.conv2, self.bn2 = parts.conv(stem, stem, 3, stems[1]), parts.normalization(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = repeated(
            4, lambda index: Bottleneck(parts, 4 * planes if index else stem, planes, project=not index)
        )
        self.transition1 = _first_transition(parts, 4 * planes, self.channels[:2], steps[0])
        self.stage2 = self._stage(config, parts, steps, 2, config.modules[0])
        self.transition2 = _transition(parts, self.channels[:3], steps[1])
        self.stage3 = self._stage(config, parts, steps, 3, config.modules[1])
        self.transition3 = _transition(parts, self.channels, steps[2])
        self.stage4 = self._stage(config, parts, steps, 4, config.modules[2])
        initialize_fan_out(self)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.relu(self.bn2(self.conv2(x)))
        for block in self.layer1:
            x = self.run(block, x)
        features = self._exchange(self.stage2, [branch(x) for branch in self.transition1])
        features.append(self.transition2[-1](features[-1]))
        features = self._exchange(self.stage3, features)
        features.append(self.transition3[-1](features[-1]))
        return self._exchange(self.stage4, features)

    def _exchange(self, stage: nn.Sequential, features: list[torch.Tensor]) -> list[torch.Tensor]:
        for module in stage:
            assert isinstance(module, ExchangeModule)
            convolved: list[torch.Tensor] = []
            for branch, feature in zip(module.branches, features, strict=True):
                convolved.append(self.run(branch, feature))
            features = module(convolved)
        return features

    def _stage(
        self, config: HRNetConfig, parts: Parts, steps: list[Steps], branches: int, modules: int
    ) -> nn.Sequential:
        channels = self.channels[:branches]
        return repeated(
            modules,
            lambda _: ExchangeModule(
                parts, channels, steps, blocks=config.blocks, align_corners=config.align_corners
            ),
        )


class ExchangeModule(nn.Module):
    """Residual blocks on each branch, then every branch to every other (Wang et al. 2020, figure 3).

    The network runs the blocks, ``branches``; calling the module does the exchange: the sum, in each branch,
    of all branches brought to its size and channels. Shapes: a list of (B, channels[i], *S') to the same.
    """

    def __init__(
        self,
        parts: Parts,
        channels: tuple[int, ...],
        steps: list[Steps],
        *,
        blocks: int,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.branches = nn.ModuleList(
            repeated(blocks, lambda _, count=count: BasicBlock(parts, count, count, project=False))
            for count in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fusion(parts, channels, steps, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )
        self.relu = nn.ReLU(inplace=False)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        fused: list[torch.Tensor] = []
        for target, row in enumerate(self.fuse_layers):
            assert isinstance(row, nn.ModuleList)
            size = features[target].shape[2:]
            total: torch.Tensor | None = None
            for layer, feature in zip(row, features, strict=True):
                moved = resize(layer(feature), size, align_corners=self.align_corners)
                total = moved if total is None else total + moved
            assert total is not None
            fused.append(self.relu(total))
        return fused


def _fusion(parts: Parts, channels: tuple[int, ...], steps: list[Steps], source: int, target: int) -> nn.Module:
    """From branch ``source`` to branch ``target``; coarser sources are interpolated afterwards."""
    if source == target:
        return nn.Identity()
    inputs, outputs = channels[source], channels[target]
    if source > target:
        return nn.Sequential(parts.conv(inputs, outputs), parts.normalization(outputs))
    last = target - 1
    chain = [parts.unit(inputs, inputs, 3, steps[level]) for level in range(source, last)]
    chain.append(nn.Sequential(parts.conv(inputs, outputs, 3, steps[last]), parts.normalization(outputs)))
    return nn.Sequential(*chain)


def _first_transition(parts: Parts, inputs: int, channels: tuple[int, ...], step: Steps) -> nn.ModuleList:
    return nn.ModuleList(
        [parts.unit(inputs, channels[0], 3), nn.Sequential(parts.unit(inputs, channels[1], 3, step))]
    )


def _transition(parts: Parts, channels: tuple[int, ...], step: Steps) -> nn.ModuleList:
    """A new, coarser branch from the coarsest one; the others go on as they are."""
    new = nn.Sequential(parts.unit(channels[-2], channels[-1], 3, step))
    return nn.ModuleList([*(nn.Identity() for _ in channels[:-1]), new])


def _totals(stem: Steps, steps: list[Steps]) -> tuple[Steps, ...]:
    totals = [stem]
    for step in steps:
        totals.append(product(totals[-1], step))
    return tuple(totals)
