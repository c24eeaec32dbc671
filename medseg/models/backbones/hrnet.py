"""HRNet in 2D and 3D: parallel branches of several resolutions that exchange features."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from medseg.models.backbones.common import Backbone, BackboneSpec, repeated, scale_channels
from medseg.models.backbones.resnet import BasicBlock, Bottleneck
from medseg.models.layers.axes import AxisTuple, PerAxis, multiply, resolve_per_axis
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.initialization import initialize_fan_out
from medseg.models.layers.padding import resize_linear


class HRNetConfig(BackboneSpec):
    """High-resolution network (Wang et al. 2020, arXiv:1908.07919), with the official state-dict keys.

    Feature maps: those of the four branches, the finest at a quarter of the image's size.

    Inherited attributes: see ``BackboneSpec``.

    Attributes:
        branch_width: channels of the finest branch: 18, 32 or 48 in the paper; doubled from branch to branch.
        modules: number of exchange modules of the stages with 2, 3 and 4 branches.
        blocks: number of residual blocks of each branch in a module.
        stem_strides: of the two convolutions of the stem; (1, 1) for small scans.
        branch_strides: from each branch to the next coarser one: a number, or one per axis.
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
    """HRNet; see ``HRNetConfig`` and ``Backbone``. Names and order of the layers are the official ones."""

    def __init__(self, config: HRNetConfig, spatial_dims: int, in_channels: int) -> None:
        super().__init__()
        layers = LayerFactory(spatial_dims, config.norm, config.norm_groups)
        self.checkpointing = config.checkpointing
        self.minimum_size = (1,) * spatial_dims
        stems = [
            resolve_per_axis("backbone.stem_strides", value, spatial_dims) for value in config.stem_strides
        ]
        steps = [
            resolve_per_axis("backbone.branch_strides", value, spatial_dims) for value in config.branch_strides
        ]
        self.channels = tuple(
            scale_channels(config.branch_width * 2**level, config.width) for level in range(4)
        )
        self.strides = _totals(multiply(*stems), steps)

        stem, planes = scale_channels(64, config.width), scale_channels(64, config.width)
        self.conv1, self.bn1 = layers.conv(in_channels, stem, 3, stems[0]), layers.normalization(stem)
        self.conv2, self.bn2 = layers.conv(stem, stem, 3, stems[1]), layers.normalization(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = repeated(
            4, lambda index: Bottleneck(layers, 4 * planes if index else stem, planes, project=not index)
        )
        self.transition1 = _first_transition(layers, 4 * planes, self.channels[:2], steps[0])
        self.stage2 = self._stage(config, layers, steps, 2, config.modules[0])
        self.transition2 = _transition(layers, self.channels[:3], steps[1])
        self.stage3 = self._stage(config, layers, steps, 3, config.modules[1])
        self.transition3 = _transition(layers, self.channels, steps[2])
        self.stage4 = self._stage(config, layers, steps, 4, config.modules[2])
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
        self, config: HRNetConfig, layers: LayerFactory, steps: list[AxisTuple], branches: int, modules: int
    ) -> nn.Sequential:
        channels = self.channels[:branches]
        return repeated(
            modules,
            lambda _: ExchangeModule(
                layers, channels, steps, blocks=config.blocks, align_corners=config.align_corners
            ),
        )


class ExchangeModule(nn.Module):
    """Residual blocks on each branch, then an exchange between all branches (Wang et al. 2020, figure 3).

    The network runs the blocks, ``branches``; calling the module does the exchange: in each branch, the sum of
    all branches brought to its size and channels.

    Shapes: a list of (B, channels[i], *S') to the same.
    """

    def __init__(
        self,
        layers: LayerFactory,
        channels: tuple[int, ...],
        steps: list[AxisTuple],
        *,
        blocks: int,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.branches = nn.ModuleList(
            repeated(blocks, lambda _, count=count: BasicBlock(layers, count, count, project=False))
            for count in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fusion(layers, channels, steps, source, target) for source in range(len(channels)))
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
                moved = resize_linear(layer(feature), size, align_corners=self.align_corners)
                total = moved if total is None else total + moved
            assert total is not None
            fused.append(self.relu(total))
        return fused


def _fusion(
    layers: LayerFactory, channels: tuple[int, ...], steps: list[AxisTuple], source: int, target: int
) -> nn.Module:
    """Create the layers from branch ``source`` to branch ``target``; coarser sources are interpolated later."""
    if source == target:
        return nn.Identity()
    inputs, outputs = channels[source], channels[target]
    if source > target:
        return nn.Sequential(layers.conv(inputs, outputs), layers.normalization(outputs))
    last = target - 1
    chain = [layers.conv_unit(inputs, inputs, 3, steps[level]) for level in range(source, last)]
    chain.append(nn.Sequential(layers.conv(inputs, outputs, 3, steps[last]), layers.normalization(outputs)))
    return nn.Sequential(*chain)


def _first_transition(
    layers: LayerFactory, inputs: int, channels: tuple[int, ...], step: AxisTuple
) -> nn.ModuleList:
    return nn.ModuleList(
        [
            layers.conv_unit(inputs, channels[0], 3),
            nn.Sequential(layers.conv_unit(inputs, channels[1], 3, step)),
        ]
    )


def _transition(layers: LayerFactory, channels: tuple[int, ...], step: AxisTuple) -> nn.ModuleList:
    """Create a new branch from the coarsest one; the others continue unchanged."""
    new = nn.Sequential(layers.conv_unit(channels[-2], channels[-1], 3, step))
    return nn.ModuleList([*(nn.Identity() for _ in channels[:-1]), new])


def _totals(stem: AxisTuple, steps: list[AxisTuple]) -> tuple[AxisTuple, ...]:
    totals = [stem]
    for step in steps:
        totals.append(multiply(totals[-1], step))
    return tuple(totals)
