"""ResNet, ResNeXt and Wide ResNet in 2D and 3D, plain and dilated."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt, model_validator
from torch import nn

from medseg.models.backbones.common import Backbone, BackboneSpec, Stage, plan_stages, repeated, scale_channels
from medseg.models.layers.axes import AxisTuple, PerAxis, multiply, resolve_per_axis
from medseg.models.layers.factory import LayerFactory, set_stride_and_dilation
from medseg.models.layers.initialization import initialize_fan_out

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ResNetConfig(BackboneSpec):
    """Residual network (He et al. 2016, arXiv:1512.03385); ResNeXt (Xie et al. 2017, arXiv:1611.05431) with
    ``groups=32, group_width=4``; Wide ResNet (Zagoruyko and Komodakis 2016, arXiv:1605.07146) with
    ``group_width=128``. State-dict keys are torchvision's.

    Feature maps: after the stem's activation, then after each stage.

    Inherited attributes: see ``BackboneSpec``.

    Attributes:
        depth: number of layers; 18 and 34 have basic blocks, the others bottlenecks.
        groups: groups of the 3×3 convolutions of bottlenecks.
        group_width: channels of a group in the first stage; 64 with one group.
        deep_stem: channels of three 3×3 convolutions in place of the 7×7 one: (32, 32, 64) is ResNet-C
            (He et al. 2019, arXiv:1812.01187), (64, 64, 128) PSPNet's.
        stem_stride: of the first convolution; 1 for small scans.
        pool_stride: of the pooling after it; 1: no pooling.
        stage_strides: of stages 2, 3 and 4: a number, or one per axis.
        stages: number of stages, up to four.
        stride_on: which convolution of a bottleneck has the stride: ``3x3`` (torchvision) or ``1x1`` (the
            paper, Caffe).
        first_dilation: the dilation of the convolution whose stride became a dilation: that of the
            ``previous`` stage (torchvision), which computes the strided network's values and those between
            them, or the ``full`` one (segmentation_models.pytorch, semseg).
        multi_grid: factors on the dilations of the last stage's blocks (Chen et al. 2017,
            arXiv:1706.05587, section 3.2.1), one per block; empty: all 1.
        ceil_pool: round the pooled size up (Caffe).
    """

    name: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152] = 50
    groups: PositiveInt = 1
    group_width: PositiveInt = 64
    deep_stem: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    stem_stride: PerAxis = 2
    pool_stride: PerAxis = 2
    stage_strides: tuple[PerAxis, PerAxis, PerAxis] = (2, 2, 2)
    stages: Literal[1, 2, 3, 4] = 4
    stride_on: Literal["3x3", "1x1"] = "3x3"
    first_dilation: Literal["previous", "full"] = "previous"
    multi_grid: tuple[PositiveInt, ...] = ()
    ceil_pool: bool = False

    @model_validator(mode="after")
    def _check_blocks(self) -> ResNetConfig:
        blocks = self.blocks()[-1]
        if self.multi_grid and len(self.multi_grid) != blocks:
            raise ValueError(
                f"multi_grid has {len(self.multi_grid)} factors, but the last stage has {blocks} blocks; give "
                f"{blocks}"
            )
        if self.depth < 50 and (self.groups, self.group_width) != (1, 64):
            raise ValueError(f"depth {self.depth} has basic blocks, which have no groups: use 50 or more")
        return self

    def blocks(self) -> tuple[int, ...]:
        """Return the number of blocks of each stage."""
        return _BLOCKS[self.depth][: self.stages]

    def build(self, spatial_dims: int, in_channels: int, output_stride: int | None = None) -> ResNet:
        """The backbone. Raises: ConfigError if a stride has other axes or ``output_stride`` is out of reach."""
        return ResNet(self, spatial_dims, in_channels, output_stride)


class ResNet(Backbone):
    """ResNet; see ``ResNetConfig`` and ``Backbone``."""

    def __init__(
        self, config: ResNetConfig, spatial_dims: int, in_channels: int, output_stride: int | None
    ) -> None:
        super().__init__()
        layers = LayerFactory(spatial_dims, config.norm, config.norm_groups)
        self.config = config
        self.checkpointing = config.checkpointing
        self.minimum_size = (1,) * spatial_dims
        stem_stride = resolve_per_axis("backbone.stem_stride", config.stem_stride, spatial_dims)
        pool_stride = resolve_per_axis("backbone.pool_stride", config.pool_stride, spatial_dims)
        self._stem = (stem_stride, multiply(stem_stride, pool_stride))
        strides = [
            resolve_per_axis("backbone.stage_strides", value, spatial_dims) for value in config.stage_strides
        ]
        self._strides = [(1,) * spatial_dims, *strides][: config.stages]

        self.conv1, channels = _stem(config, layers, in_channels, stem_stride)
        self.bn1 = layers.normalization(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()
        if max(pool_stride) > 1:
            self.maxpool = layers.max_pool(3, pool_stride, ceil=config.ceil_pool)
        kept = [channels]
        for number, count in enumerate(config.blocks()):
            layer, channels = _stage(config, layers, channels, number, count)
            self.add_module(f"layer{number + 1}", layer)
            kept.append(channels)
        self.channels = tuple(kept)
        self.set_output_stride(output_stride)
        initialize_fan_out(self)

    def stage_modules(self) -> list[nn.Sequential]:
        """Return the stages in order."""
        return [self.get_submodule(f"layer{n + 1}") for n in range(self.config.stages)]  # type: ignore[misc]

    def set_output_stride(self, output_stride: int | None) -> None:
        plan = plan_stages(self._stem[1], self._strides, output_stride)
        self.strides = (self._stem[0], *(stage.total for stage in plan))
        for number, (layer, stage) in enumerate(zip(self.stage_modules(), plan, strict=True)):
            for index, block in enumerate(layer):
                assert isinstance(block, BasicBlock | Bottleneck)
                block.set_steps(*self._block_steps(stage, number, index))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.relu(self.bn1(self.conv1(image)))
        features = [x]
        x = self.maxpool(x)
        for layer in self.stage_modules():
            for block in layer:
                x = self.run(block, x)
            features.append(x)
        return features

    def _block_steps(self, stage: Stage, number: int, index: int) -> tuple[AxisTuple, AxisTuple, AxisTuple]:
        """Return the stride, first dilation and further dilation of block ``index`` of stage ``number``."""
        first = stage.dilation
        if index == 0 and self.config.first_dilation == "previous":
            first = stage.previous
        factor = (1,) * len(first)
        stride = stage.stride if index == 0 else factor
        if self.config.multi_grid and number == self.config.stages - 1:
            factor = (self.config.multi_grid[index],) * len(first)
        return stride, multiply(first, factor), multiply(stage.dilation, factor)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, figure 5, left)."""

    expansion = 1

    def __init__(self, layers: LayerFactory, inputs: int, planes: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = layers.conv(inputs, planes, 3)
        self.bn1 = layers.normalization(planes)
        self.conv2 = layers.conv(planes, planes, 3)
        self.bn2 = layers.normalization(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(layers, inputs, planes) if project else None

    def set_steps(self, stride: AxisTuple, first: AxisTuple, dilation: AxisTuple) -> None:
        """Change the stride, the dilation of the strided convolution and the dilation after it, in place."""
        set_stride_and_dilation(self.conv1, stride, first)
        set_stride_and_dilation(self.conv2, (1,) * len(stride), dilation)
        if self.downsample is not None:
            set_stride_and_dilation(self.downsample[0], stride, (1,) * len(stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut (He et al. 2016, figure 5, right)."""

    expansion = 4

    def __init__(
        self,
        layers: LayerFactory,
        inputs: int,
        planes: int,
        *,
        project: bool,
        inner: int | None = None,
        groups: int = 1,
        stride_on: Literal["3x3", "1x1"] = "3x3",
    ) -> None:
        super().__init__()
        inner = planes if inner is None else inner
        self.conv1 = layers.conv(inputs, inner)
        self.bn1 = layers.normalization(inner)
        self.conv2 = layers.conv(inner, inner, 3, groups=groups)
        self.bn2 = layers.normalization(inner)
        self.conv3 = layers.conv(inner, planes * 4)
        self.bn3 = layers.normalization(planes * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(layers, inputs, planes * 4) if project else None
        self.stride_on = stride_on

    def set_steps(self, stride: AxisTuple, first: AxisTuple, dilation: AxisTuple) -> None:
        """Change the stride, and the dilation of the only 3×3 convolution to ``first``, in place."""
        ones = (1,) * len(stride)
        early = self.stride_on == "1x1"
        set_stride_and_dilation(self.conv1, stride if early else ones, ones)
        set_stride_and_dilation(self.conv2, ones if early else stride, first)
        if self.downsample is not None:
            set_stride_and_dilation(self.downsample[0], stride, ones)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


def _stem(config: ResNetConfig, layers: LayerFactory, inputs: int, stride: AxisTuple) -> tuple[nn.Module, int]:
    """Create the convolutions before ``bn1``; return them and their output channels."""
    if config.deep_stem is None:
        channels = scale_channels(64, config.width)
        return layers.conv(inputs, channels, 7, stride), channels
    first, second, last = (scale_channels(count, config.width) for count in config.deep_stem)
    return (
        nn.Sequential(
            *layers.conv_unit(inputs, first, 3, stride),
            *layers.conv_unit(first, second, 3),
            layers.conv(second, last, 3),
        ),
        last,
    )


def _stage(
    config: ResNetConfig, layers: LayerFactory, inputs: int, number: int, count: int
) -> tuple[nn.Sequential, int]:
    """Create stage ``number`` (0 first) with ``count`` blocks; return it and its output channels."""
    planes = scale_channels(64 * 2**number, config.width)
    if config.depth < 50:
        outputs = planes
        strided = number > 0 or inputs != outputs

        def basic(index: int) -> nn.Module:
            return BasicBlock(layers, outputs if index else inputs, planes, project=not index and strided)

        return repeated(count, basic), outputs
    outputs = 4 * planes
    inner = max(1, planes * config.group_width // 64) * config.groups

    def bottleneck(index: int) -> nn.Module:
        return Bottleneck(
            layers,
            outputs if index else inputs,
            planes,
            project=not index,
            inner=inner,
            groups=config.groups,
            stride_on=config.stride_on,
        )

    return repeated(count, bottleneck), outputs


def _projection(layers: LayerFactory, inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(layers.conv(inputs, outputs), layers.normalization(outputs))
