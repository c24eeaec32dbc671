"""The parts that architectures share: convolutions with norm and activation, residuals, initial weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from monai.networks.layers.factories import Conv, Dropout, Norm
from torch import nn

NormName = Literal["instance", "batch", "group"]
ActivationName = Literal["relu", "leaky_relu", "prelu", "elu", "gelu", "silu"]

LEAKY_SLOPE = 0.01

_ACTIVATIONS: dict[ActivationName, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, LEAKY_SLOPE, inplace=True),
    "prelu": nn.PReLU,
    "elu": partial(nn.ELU, inplace=True),
    "gelu": nn.GELU,
    "silu": partial(nn.SiLU, inplace=True),
}


@dataclass(frozen=True)
class Layers:
    """Makes a network's layers, all of one dimension and one style.

    Attributes:
        spatial_dims: 2 or 3.
        norm: kind of normalization; its scale and shift are learned.
        activation: kind of activation.
        groups: groups of a ``group`` norm.
        dropout: probability with which a whole channel is set to zero.
    """

    spatial_dims: int
    norm: NormName = "instance"
    activation: ActivationName = "leaky_relu"
    groups: int = 8
    dropout: float = 0.0

    def conv(
        self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int], *, bias: bool = True
    ) -> nn.Module:
        """A convolution that keeps the size (odd kernels), divided by the stride."""
        padding = tuple(width // 2 for width in kernel)
        return Conv["conv", self.spatial_dims](
            inputs, outputs, tuple(kernel), stride=tuple(stride), padding=padding, bias=bias
        )

    def pointwise(self, inputs: int, outputs: int) -> nn.Module:
        """A 1×1(×1) convolution with bias."""
        return self.conv(inputs, outputs, (1,) * self.spatial_dims, (1,) * self.spatial_dims)

    def reduce(self, inputs: int, outputs: int, stride: Sequence[int]) -> nn.Module:
        """A convolution without bias over blocks of ``stride`` voxels, each seen once."""
        return Conv["conv", self.spatial_dims](inputs, outputs, tuple(stride), stride=tuple(stride), bias=False)

    def normalization(self, channels: int) -> nn.Module:
        """The norm of ``channels`` channels."""
        if self.norm == "group":
            return nn.GroupNorm(self.groups, channels)
        return Norm[self.norm, self.spatial_dims](channels, affine=True)

    def activate(self) -> nn.Module:
        """The activation, working in place where it can."""
        return _ACTIVATIONS[self.activation]()

    def unit(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        *,
        activated: bool = True,
    ) -> nn.Sequential:
        """Convolution, norm, activation, dropout. The norm shifts, so the convolution has no bias."""
        unit = nn.Sequential()
        unit.add_module("conv", self.conv(inputs, outputs, kernel, stride, bias=False))
        unit.add_module("norm", self.normalization(outputs))
        if activated:
            unit.add_module("act", self.activate())
        if self.dropout:
            unit.add_module("dropout", Dropout["dropout", self.spatial_dims](self.dropout))
        return unit


class Residual(nn.Module):
    """activate(body(x) + shortcut(x)) (He et al. 2016, arXiv:1512.03385, equation 2)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.body(x) + self.shortcut(x))


def conv_stack(
    layers: Layers,
    channels: tuple[int, int],
    kernel: Sequence[int],
    stride: Sequence[int],
    count: int,
    *,
    activate_last: bool = True,
) -> nn.Sequential:
    """``count`` units in a row; the first one changes the channels (from, to) and applies the stride."""
    stack = nn.Sequential()
    inputs, outputs = channels
    for index in range(count):
        activated = activate_last or index < count - 1
        stack.append(layers.unit(inputs, outputs, kernel, stride, activated=activated))
        inputs, stride = outputs, (1,) * len(kernel)
    return stack


def residual_stack(
    layers: Layers, channels: tuple[int, int], kernel: Sequence[int], stride: Sequence[int], count: int
) -> Residual:
    """A ``conv_stack`` with a shortcut around it, a strided 1×1(×1) unit where the shapes change."""
    body = conv_stack(layers, channels, kernel, stride, count, activate_last=False)
    ones = (1,) * len(kernel)
    if channels[0] == channels[1] and tuple(stride) == ones:
        return Residual(body, nn.Identity(), layers.activate())
    shortcut = nn.Sequential()
    shortcut.add_module("conv", layers.conv(*channels, ones, stride, bias=False))
    shortcut.add_module("norm", layers.normalization(channels[1]))
    return Residual(body, shortcut, layers.activate())


def initialize(network: nn.Module) -> None:
    """He-normal weights for every convolution, zero for every bias (He et al. 2015, arXiv:1502.01852).

    The gain is that of a leaky rectifier with slope 0.01, whatever the activation (Isensee et al. 2021).
    Norms keep torch's scale of 1 and shift of 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE, nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
