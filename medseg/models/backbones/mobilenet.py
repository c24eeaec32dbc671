"""MobileNetV3-large in 2D and 3D, plain and dilated."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import nn

from medseg.models.backbones.common import Backbone, BackboneSpec, Stage, plan_stages
from medseg.models.layers.axes import AxisTuple, PerAxis, resolve_per_axis
from medseg.models.layers.factory import LayerFactory, set_stride_and_dilation
from medseg.models.layers.initialization import initialize_fan_out

_EPS, _MOMENTUM = 1e-3, 0.01  # of the batch norms, as in TensorFlow


class _Row(NamedTuple):
    """A row of the paper's table 1."""

    kernel: int
    expanded: int
    outputs: int
    squeeze: bool
    swish: bool
    strided: bool = False


_LARGE = (
    _Row(3, 16, 16, False, False),
    _Row(3, 64, 24, False, False, True),
    _Row(3, 72, 24, False, False),
    _Row(5, 72, 40, True, False, True),
    _Row(5, 120, 40, True, False),
    _Row(5, 120, 40, True, False),
    _Row(3, 240, 80, False, True, True),
    _Row(3, 200, 80, False, True),
    _Row(3, 184, 80, False, True),
    _Row(3, 184, 80, False, True),
    _Row(3, 480, 112, True, True),
    _Row(3, 672, 112, True, True),
    _Row(5, 672, 160, True, True, True),
    _Row(5, 960, 160, True, True),
    _Row(5, 960, 160, True, True),
)
_TAPS = {"first": (0, 2, 4, 7, 16), "last": (1, 3, 6, 12, 16)}


class MobileNetV3Config(BackboneSpec):
    """MobileNetV3-large (Howard et al. 2019, arXiv:1905.02244), with torchvision's state-dict keys.

    Feature maps: one of each stride from 2 to 16, then that of the last 1×1 convolution.

    Inherited attributes: see ``BackboneSpec``.

    Attributes:
        tap: which block of a stride returns its feature map: the ``last`` one (encoders of U-Nets) or the
            ``first`` one (torchvision's segmentation networks).
        strides: of the stem and of the four strided blocks: a number, or one per axis.
    """

    name: Literal["mobilenetv3"] = "mobilenetv3"
    tap: Literal["first", "last"] = "last"
    strides: tuple[PerAxis, PerAxis, PerAxis, PerAxis, PerAxis] = (2, 2, 2, 2, 2)

    def build(self, spatial_dims: int, in_channels: int, output_stride: int | None = None) -> MobileNetV3:
        """The backbone. Raises: ConfigError if a stride has other axes or ``output_stride`` is out of reach."""
        return MobileNetV3(self, spatial_dims, in_channels, output_stride)


class MobileNetV3(Backbone):
    """MobileNetV3-large; see ``MobileNetV3Config`` and ``Backbone``."""

    def __init__(
        self, config: MobileNetV3Config, spatial_dims: int, in_channels: int, output_stride: int | None
    ) -> None:
        super().__init__()
        layers = LayerFactory(spatial_dims, config.norm, config.norm_groups, eps=_EPS, momentum=_MOMENTUM)
        self.checkpointing = config.checkpointing
        self.minimum_size = (1,) * spatial_dims
        self.taps = _TAPS[config.tap]
        stem, *self._strides = [
            resolve_per_axis("backbone.strides", value, spatial_dims) for value in config.strides
        ]
        self._stem = stem

        inputs = round_channels(16 * config.width)
        self.features = nn.Sequential(_unit(layers, in_channels, inputs, 3, nn.Hardswish, stride=stem))
        counts = [inputs]
        for row in _LARGE:
            outputs = round_channels(row.outputs * config.width)
            expanded = round_channels(row.expanded * config.width)
            self.features.append(InvertedResidual(layers, row, inputs, expanded, outputs))
            counts.append(outputs)
            inputs = outputs
        self.features.append(_unit(layers, inputs, 6 * inputs, 1, nn.Hardswish))
        counts.append(6 * inputs)
        self.channels = tuple(counts[tap] for tap in self.taps)
        self.set_output_stride(output_stride)
        initialize_fan_out(self)

    def set_output_stride(self, output_stride: int | None) -> None:
        plan = [
            Stage(self._stem, (1,) * len(self._stem), (1,) * len(self._stem), self._stem),
            *plan_stages(self._stem, self._strides, output_stride),
        ]
        self.strides = tuple(stage.total for stage in plan)
        level = 0
        for row, block in zip(_LARGE, list(self.features)[1:-1], strict=True):
            assert isinstance(block, InvertedResidual)
            level += row.strided
            stage = plan[level]
            block.set_steps(stage.stride if row.strided else (1,) * len(self._stem), stage.dilation)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features: list[torch.Tensor] = []
        x = image
        for index, block in enumerate(self.features):
            x = self.run(block, x)
            if index in self.taps:
                features.append(x)
        return features


class InvertedResidual(nn.Module):
    """Expand, convolve depthwise, squeeze and excite, project (Howard et al. 2019, figure 4)."""

    def __init__(self, layers: LayerFactory, row: _Row, inputs: int, expanded: int, outputs: int) -> None:
        super().__init__()
        activation = nn.Hardswish if row.swish else nn.ReLU
        units: list[nn.Module] = []
        if expanded != inputs:
            units.append(_unit(layers, inputs, expanded, 1, activation))
        self.depthwise = len(units)
        units.append(_unit(layers, expanded, expanded, row.kernel, activation, groups=expanded))
        if row.squeeze:
            units.append(SqueezeExcitation(layers, expanded, round_channels(expanded // 4)))
        units.append(_unit(layers, expanded, outputs, 1, None))
        self.block = nn.Sequential(*units)
        self.residual = not row.strided and inputs == outputs

    def set_steps(self, stride: AxisTuple, dilation: AxisTuple) -> None:
        """Change the block's stride and dilation in place."""
        unit = self.block[self.depthwise]
        assert isinstance(unit, nn.Sequential)
        set_stride_and_dilation(unit[0], stride, dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x) if self.residual else self.block(x)


class SqueezeExcitation(nn.Module):
    """Weight the channels by a function of their global averages (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, layers: LayerFactory, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = layers.average_to(1)
        self.fc1 = layers.pointwise(channels, squeezed)
        self.fc2 = layers.pointwise(squeezed, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.fc1(self.avgpool(x)))
        return x * nn.functional.hardsigmoid(self.fc2(hidden))


def round_channels(channels: float, divisor: int = 8) -> int:
    """Return the multiple of ``divisor`` nearest to ``channels``, but at least 90% of ``channels``.

    Source: the paper's code.
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def _unit(
    layers: LayerFactory,
    inputs: int,
    outputs: int,
    kernel: int,
    activation: type[nn.Module] | None,
    *,
    stride: int | AxisTuple = 1,
    groups: int = 1,
) -> nn.Sequential:
    unit = nn.Sequential(
        layers.conv(inputs, outputs, kernel, stride, groups=groups), layers.normalization(outputs)
    )
    if activation is not None:
        unit.append(activation(inplace=True))
    return unit
