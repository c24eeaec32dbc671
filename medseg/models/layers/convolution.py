"""What backbones and heads are made of: convolutions with dilation, norms, pooling, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Dropout, Pool
from pydantic import PositiveInt
from torch import nn

from medseg.errors import ConfigError
from medseg.models.layers.norms import BatchNorm, GroupNorm, InstanceNorm, NormName
from medseg.models.layers.padding import linear_mode

PerAxis = PositiveInt | tuple[PositiveInt, ...]  # one number for all axes, or one for each
Steps = tuple[int, ...]  # one number an axis


@dataclass(frozen=True)
class Parts:
    """Makes layers of one dimension and one kind of norm; activations are rectifiers.

    Attributes:
        spatial_dims: 2 or 3.
        norm: kind of norm; its scale and shift are learned.
        norm_groups: groups of a ``group`` norm, at most.
        eps: added to variances.
        momentum: of a batch norm's running statistics.
    """

    spatial_dims: int
    norm: NormName = "batch"
    norm_groups: int = 32
    eps: float = 1e-5
    momentum: float = 0.1

    def conv(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int | Steps = 1,
        *,
        dilation: int | Steps = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> nn.Module:
        """A convolution with zero padding that keeps the size (odd kernels), divided by the stride."""
        module = Conv["conv", self.spatial_dims](inputs, outputs, kernel, groups=groups, bias=bias)
        set_steps(module, self.steps(stride), self.steps(dilation))
        return module

    def normalization(self, channels: int) -> nn.Module:
        """The norm of ``channels`` channels."""
        if self.norm == "group":
            return GroupNorm(self.norm_groups, channels, self.eps)
        if self.norm == "instance":
            return InstanceNorm(channels, self.eps, affine=True)
        return BatchNorm(channels, self.eps, self.momentum)

    def unit(self, inputs: int, outputs: int, kernel: int = 1, stride: int | Steps = 1) -> nn.Sequential:
        """Convolution without bias, norm and rectifier, under the names 0, 1 and 2."""
        conv = self.conv(inputs, outputs, kernel, stride)
        return nn.Sequential(conv, self.normalization(outputs), nn.ReLU(inplace=True))

    def max_pool(self, kernel: int, stride: int | Steps, *, ceil: bool = False) -> nn.Module:
        """Maximum pooling; a kernel of 3 is padded by 1. Axes of stride 1 are left alone by a kernel of 2, and
        where the stride is wider than the kernel, the kernel is as wide.
        """
        steps = self.steps(stride)
        window = tuple(max(kernel, step) if step > 1 or kernel == 3 else 1 for step in steps)
        padding = tuple((width - 1) // 2 for width in window)
        return Pool["max", self.spatial_dims](window, steps, padding, ceil_mode=ceil)

    def average_to(self, size: int) -> nn.Module:
        """Average pooling to ``size`` voxels along every axis."""
        return Pool["adaptiveavg", self.spatial_dims]((size,) * self.spatial_dims)

    def dropout(self, probability: float) -> nn.Module:
        """Dropout of whole channels."""
        return Dropout["dropout", self.spatial_dims](probability)

    def steps(self, value: int | Sequence[int]) -> Steps:
        """``value``, one number an axis."""
        return (value,) * self.spatial_dims if isinstance(value, int) else tuple(value)


def set_steps(conv: nn.Module, stride: Steps, dilation: Steps) -> None:
    """Give a convolution another stride and dilation, and the padding that goes with them, in place.

    Raises: TypeError if it is not a convolution.
    """
    if not isinstance(conv, nn.Conv2d | nn.Conv3d):
        raise TypeError(f"a convolution has steps; got {type(conv).__name__}")
    conv.stride, conv.dilation = stride, dilation  # pyright: ignore[reportAttributeAccessIssue]
    conv.padding = tuple(  # pyright: ignore[reportAttributeAccessIssue]
        rate * (width // 2) for rate, width in zip(dilation, conv.kernel_size, strict=True)
    )


def per_axis(field: str, value: int | tuple[int, ...], spatial_dims: int) -> Steps:
    """A setting as one number an axis. Raises: ConfigError if it has other axes than the task."""
    steps = (value,) * spatial_dims if isinstance(value, int) else value
    if len(steps) != spatial_dims:
        raise ConfigError(
            f"model.{field} is {value}, {len(steps)} numbers, but the task has {spatial_dims} spatial axes; "
            "give one number, or one an axis"
        )
    return steps


def product(first: Steps, second: Steps) -> Steps:
    """Axis by axis."""
    return tuple(a * b for a, b in zip(first, second, strict=True))


def resize(x: torch.Tensor, size: Sequence[int], *, align_corners: bool = False) -> torch.Tensor:
    """``x`` (B, C, *S) interpolated linearly to ``size``."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=linear_mode(len(size)), align_corners=align_corners)


def initialize_fan_out(network: nn.Module) -> None:
    """He-normal weights by fan-out for every convolution, zero biases (He et al. 2015, arXiv:1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialize_scores(layer: nn.Module, std: float) -> None:
    """Normal weights of deviation ``std`` and zero bias, for the layer that gives the scores."""
    if not isinstance(layer, nn.Conv2d | nn.Conv3d):
        raise TypeError(f"scores come from a convolution; got {type(layer).__name__}")
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, at least 1."""
    return max(1, round(channels * width))
