"""Transposed convolutions that begin as linear interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medseg.models.layers.axes import AxisTuple


def linear_upsampling(channels: int, factor: AxisTuple, *, padded: bool) -> nn.Module:
    """Create a transposed convolution that interpolates each channel linearly by ``factor``.

    Args:
        channels: number of input and output channels.
        factor: ratio of output to input size, one number per axis.
        padded: crop the output to ``factor`` times the input's size; otherwise its border is kept.
    """
    kernel = tuple(2 * step - step % 2 for step in factor)
    padding = tuple(step // 2 if padded else 0 for step in factor)
    layer = Conv["convtrans", len(factor)](channels, channels, kernel, factor, padding, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(channels), range(channels)] = triangle_kernel(kernel)
    return layer


def triangle_kernel(kernel: Sequence[int]) -> torch.Tensor:
    """Return the kernel of linear interpolation: the outer product of one triangle per axis."""
    weights = torch.ones(())
    for width in kernel:
        factor = (width + 1) // 2
        center = factor - 1 if width % 2 else factor - 0.5
        side = 1 - (torch.arange(width, dtype=torch.float32) - center).abs() / factor
        weights = weights[..., None] * side
    return weights


def upsampling_head(head: nn.Module, factor: AxisTuple) -> nn.Module:
    """Join a pointwise convolution with the linear interpolation of its results in one transposed convolution.

    The layer computes logits between the voxels of its input, which interpolation can only blend.

    Args:
        head: the pointwise convolution, with bias.
        factor: ratio of output to input size, one number per axis.
    """
    source: Any = head
    outputs, inputs = source.weight.shape[:2]
    kernel = tuple(2 * step - step % 2 for step in factor)
    padding = tuple(step // 2 for step in factor)
    layer = Conv["convtrans", len(factor)](inputs, outputs, kernel, factor, padding)
    with torch.no_grad():
        pointwise = source.weight.flatten(2).movedim(0, 1)  # (inputs, outputs, 1)
        layer.weight.copy_(pointwise.reshape(inputs, outputs, *(1,) * len(factor)) * triangle_kernel(kernel))
        layer.bias.copy_(source.bias)
    return layer
