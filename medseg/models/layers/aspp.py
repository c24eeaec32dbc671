"""Atrous spatial pyramid pooling, and the separable convolutions it can consist of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medseg.models.layers.factory import LayerFactory, set_stride_and_dilation
from medseg.models.layers.initialization import initialize_logits


class ASPP(nn.Module):
    """Parallel 1×1, dilated 3×3 and image-pooling branches, concatenated and projected
    (Chen et al. 2017, arXiv:1706.05587, figure 5).

    Shapes: (B, ``inputs``, *S) to (B, ``channels``, *S).

    Args:
        layers: creates the layers.
        inputs: number of input channels.
        channels: output channels of each branch and of the projection.
        rates: dilations of the 3×3 branches.
        separable: how to make the 3×3 branches of separable convolutions; None: plain convolutions.
        dropout: probability of dropout after the projection.
    """

    def __init__(
        self,
        layers: LayerFactory,
        inputs: int,
        channels: int,
        rates: Sequence[int],
        separable: SeparableConv | None = None,
        *,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        dilated = [
            layers.conv_unit(inputs, channels, 3)
            if separable is None
            else separable.conv_unit(layers, inputs, channels)
            for _ in rates
        ]
        pooled = nn.Sequential(layers.average_to(1), *layers.conv_unit(inputs, channels))
        self.convs = nn.ModuleList([layers.conv_unit(inputs, channels), *dilated, pooled])
        self.project = nn.Sequential(
            *layers.conv_unit(len(self.convs) * channels, channels), nn.Dropout(dropout)
        )
        self.set_rates(rates)

    def set_rates(self, rates: Sequence[int]) -> None:
        """Change the dilations of the 3×3 branches in place."""
        for branch, rate in zip(list(self.convs)[1:-1], rates, strict=True):
            conv = next(m for m in branch.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
            axes = len(conv.kernel_size)
            set_stride_and_dilation(conv, (1,) * axes, (rate,) * axes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = [branch(x) for branch in self.convs]
        branches[-1] = branches[-1].expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat(branches, dim=1))


class SeparableConv:
    """Creates depthwise separable convolutions (Chollet 2017, arXiv:1610.02357).

    Args:
        norm_between: put a norm and an activation between the two convolutions (Chen et al. 2018,
            arXiv:1802.02611, section 4.3); segmentation_models.pytorch has none there.
    """

    def __init__(self, *, norm_between: bool) -> None:
        self.norm_between = norm_between

    def conv(self, layers: LayerFactory, inputs: int, outputs: int) -> nn.Sequential:
        """Create a depthwise 3×3 convolution followed by a pointwise one."""
        conv = nn.Sequential(layers.conv(inputs, inputs, 3, groups=inputs))
        if self.norm_between:
            conv.extend([layers.normalization(inputs), layers.activate()])
        return conv.append(layers.conv(inputs, outputs))

    def conv_unit(self, layers: LayerFactory, inputs: int, outputs: int) -> nn.Sequential:
        """Create a separable convolution followed by a norm and an activation."""
        conv = self.conv(layers, inputs, outputs)
        return nn.Sequential(conv, layers.normalization(outputs), layers.activate())


class SummedASPP(nn.Module):
    """The sum of dilated 3×3 convolutions to class logits (Chen et al. 2016, arXiv:1606.00915, figure 7).

    The initial weights are normal with standard deviation 0.01.

    Shapes: (B, ``inputs``, *S) to (B, ``classes``, *S).
    """

    def __init__(self, layers: LayerFactory, inputs: int, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = len(rates)
        for index, rate in enumerate(rates):
            conv = layers.conv(inputs, classes, 3, dilation=rate, bias=True)
            initialize_logits(conv, 0.01)
            self.add_module(f"c{index}", conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.get_submodule("c0")(x)
        for index in range(1, self.branches):
            total = total + self.get_submodule(f"c{index}")(x)
        return total
