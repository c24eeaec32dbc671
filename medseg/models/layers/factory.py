"""``LayerFactory``: the layers of a network in 2D or 3D, of one kind of norm and activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from monai.networks.layers.factories import Conv, Dropout, Pool
from torch import nn

from medseg.models.layers.axes import AxisTuple
from medseg.models.layers.initialization import LEAKY_SLOPE
from medseg.models.layers.norms import BatchNorm, GroupNorm, InstanceNorm, NormName

ActivationName = Literal["relu", "leaky_relu", "prelu", "elu", "gelu", "silu"]

_ACTIVATIONS: dict[ActivationName, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, LEAKY_SLOPE, inplace=True),
    "prelu": nn.PReLU,
    "elu": partial(nn.ELU, inplace=True),
    "gelu": nn.GELU,
    "silu": partial(nn.SiLU, inplace=True),
}


@dataclass(frozen=True)
class LayerFactory:
    """Create the layers of a network, all with the same dimension, kind of norm and activation.

    Attributes:
        spatial_dims: 2 or 3.
        norm: kind of norm; its scale and shift are learned.
        norm_groups: maximum number of groups of a ``group`` norm.
        activation: kind of activation.
        eps: added to the variances of norms.
        momentum: of a batch norm's running statistics.

    Example:
        >>> layers = LayerFactory(spatial_dims=2)
        >>> layers.conv(3, 8, kernel=3, stride=2)
        Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), bias=False)
    """

    spatial_dims: int
    norm: NormName = "batch"
    norm_groups: int = 32
    activation: ActivationName = "relu"
    eps: float = 1e-5
    momentum: float = 0.1

    def conv(
        self,
        inputs: int,
        outputs: int,
        kernel: int | AxisTuple = 1,
        stride: int | AxisTuple = 1,
        *,
        dilation: int | AxisTuple = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> nn.Module:
        """Create a zero-padded convolution whose output size is the input's, divided by the stride.

        Args:
            inputs: number of input channels.
            outputs: number of output channels.
            kernel: odd width of the kernel.
            stride: step of the kernel.
            dilation: distance between the kernel's taps.
            groups: number of groups of channels that are convolved independently.
            bias: add a learned bias. Leave it out before a norm, which has a shift.
        """
        module = Conv["conv", self.spatial_dims](inputs, outputs, kernel, groups=groups, bias=bias)
        set_stride_and_dilation(module, self.per_axis(stride), self.per_axis(dilation))
        return module

    def pointwise(self, inputs: int, outputs: int) -> nn.Module:
        """Create a 1×1(×1) convolution with bias."""
        return self.conv(inputs, outputs, bias=True)

    def unpadded_conv(self, inputs: int, outputs: int, kernel: int) -> nn.Module:
        """Create a convolution with bias and without padding: each axis gets ``kernel - 1`` voxels shorter."""
        return Conv["conv", self.spatial_dims](inputs, outputs, kernel)

    def block_conv(self, inputs: int, outputs: int, stride: AxisTuple) -> nn.Module:
        """Create a convolution without bias over adjacent blocks of ``stride`` voxels."""
        return Conv["conv", self.spatial_dims](inputs, outputs, stride, stride=stride, bias=False)

    def transposed_conv(self, inputs: int, outputs: int, stride: int | AxisTuple) -> nn.Module:
        """Create a transposed convolution with bias whose kernel is as wide as its stride."""
        steps = self.per_axis(stride)
        return Conv["convtrans", self.spatial_dims](inputs, outputs, kernel_size=steps, stride=steps)

    def normalization(self, channels: int) -> nn.Module:
        """Create the norm of ``channels`` channels."""
        if self.norm == "group":
            return GroupNorm(self.norm_groups, channels, self.eps)
        if self.norm == "instance":
            return InstanceNorm(channels, self.eps, affine=True)
        return BatchNorm(channels, self.eps, self.momentum)

    def activate(self) -> nn.Module:
        """Create the activation; it works in place where it can."""
        return _ACTIVATIONS[self.activation]()

    def conv_unit(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int | AxisTuple = 1
    ) -> nn.Sequential:
        """Create a convolution without bias, a norm and an activation, with state-dict keys 0, 1 and 2."""
        return nn.Sequential(
            self.conv(inputs, outputs, kernel, stride), self.normalization(outputs), self.activate()
        )

    def max_pool(self, kernel: int, stride: int | AxisTuple, *, ceil: bool = False) -> nn.Module:
        """Create a maximum pooling.

        A kernel of 3 is padded by 1. A kernel of 2 leaves axes of stride 1 unchanged, and is widened to the
        stride where that is larger.

        Args:
            kernel: width of the window, 2 or 3.
            stride: step of the window.
            ceil: round the output size up.
        """
        steps = self.per_axis(stride)
        window = tuple(max(kernel, step) if step > 1 or kernel == 3 else 1 for step in steps)
        padding = tuple((width - 1) // 2 for width in window)
        return Pool["max", self.spatial_dims](window, steps, padding, ceil_mode=ceil)

    def average_to(self, size: int) -> nn.Module:
        """Create an average pooling to ``size`` voxels along every axis."""
        return Pool["adaptiveavg", self.spatial_dims]((size,) * self.spatial_dims)

    def dropout(self, probability: float) -> nn.Module:
        """Create a dropout of whole channels."""
        return Dropout["dropout", self.spatial_dims](probability)

    def per_axis(self, value: int | AxisTuple) -> AxisTuple:
        """Return ``value`` with one number per axis."""
        return (value,) * self.spatial_dims if isinstance(value, int) else tuple(value)


def set_stride_and_dilation(conv: nn.Module, stride: AxisTuple, dilation: AxisTuple) -> None:
    """Change the stride and dilation of a convolution in place, and its padding to match.

    Raises:
        TypeError: if ``conv`` is not a convolution.
    """
    if not isinstance(conv, nn.Conv2d | nn.Conv3d):
        raise TypeError(f"expected a convolution; got {type(conv).__name__}")
    conv.stride, conv.dilation = stride, dilation  # pyright: ignore[reportAttributeAccessIssue]
    conv.padding = tuple(  # pyright: ignore[reportAttributeAccessIssue]
        rate * (width // 2) for rate, width in zip(dilation, conv.kernel_size, strict=True)
    )
