"""Stacks of convolutions and residual blocks with named layers, as the U-Net uses them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from medseg.models.layers.axes import AxisTuple
from medseg.models.layers.factory import LayerFactory


@dataclass(frozen=True)
class StackShape:
    """Shape of a stack of convolutions.

    Attributes:
        inputs: number of input channels.
        outputs: number of output channels of every convolution.
        kernel: width of the kernels, one number per axis.
        stride: stride of the first convolution, one number per axis.
        count: number of convolutions.
    """

    inputs: int
    outputs: int
    kernel: AxisTuple
    stride: AxisTuple
    count: int

    def with_stride_one(self, inputs: int) -> StackShape:
        """Return the shape with other input channels and a stride of 1."""
        return replace(self, inputs=inputs, stride=(1,) * len(self.stride))


class ConvBlock(nn.Sequential):
    """Convolution without bias, norm, activation and dropout of channels.

    The layers have the state-dict keys ``conv``, ``norm``, ``act`` and ``dropout``.

    Args:
        layers: creates the layers.
        shape: channels, kernel and stride; ``count`` is ignored.
        dropout: probability of setting a channel to zero; 0 adds no layer.
        activated: add the activation.
    """

    def __init__(
        self, layers: LayerFactory, shape: StackShape, *, dropout: float = 0.0, activated: bool = True
    ) -> None:
        super().__init__()
        self.add_module("conv", layers.conv(shape.inputs, shape.outputs, shape.kernel, shape.stride))
        self.add_module("norm", layers.normalization(shape.outputs))
        if activated:
            self.add_module("act", layers.activate())
        if dropout:
            self.add_module("dropout", layers.dropout(dropout))


class Residual(nn.Module):
    """``activation(body(x) + shortcut(x))`` (He et al. 2016, arXiv:1512.03385, equation 2)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.body(x) + self.shortcut(x))


def conv_stack(
    layers: LayerFactory, shape: StackShape, *, dropout: float = 0.0, activate_last: bool = True
) -> nn.Sequential:
    """Create ``shape.count`` blocks in a row; the first one changes the channels and applies the stride."""
    stack = nn.Sequential()
    for index in range(shape.count):
        activated = activate_last or index < shape.count - 1
        stack.append(ConvBlock(layers, shape, dropout=dropout, activated=activated))
        shape = shape.with_stride_one(shape.outputs)
    return stack


def residual_stack(layers: LayerFactory, shape: StackShape, *, dropout: float = 0.0) -> Residual:
    """Create a ``conv_stack`` with a shortcut around it.

    Where channels or size change, the shortcut is a strided 1×1(×1) convolution and a norm.
    """
    body = conv_stack(layers, shape, dropout=dropout, activate_last=False)
    if shape.inputs == shape.outputs and max(shape.stride) == 1:
        return Residual(body, nn.Identity(), layers.activate())
    shortcut = nn.Sequential()
    shortcut.add_module("conv", layers.conv(shape.inputs, shape.outputs, stride=shape.stride))
    shortcut.add_module("norm", layers.normalization(shape.outputs))
    return Residual(body, shortcut, layers.activate())
