"""Atrous spatial pyramid pooling, and the separable convolutions it may be made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medseg.models.layers.convolution import Parts, initialize_scores, set_steps


class ASPP(nn.Module):
    """Parallel 1×1, dilated 3×3 and image-pooling branches, concatenated and projected
    (Chen et al. 2017, arXiv:1706.05587, figure 5).

    Shapes: (B, ``inputs``, *S) to (B, ``channels``, *S).
    """

    def __init__(
        self,
        parts: Parts,
        inputs: int,
        channels: int,
        rates: Sequence[int],
        convolution: SeparableStyle | None = None,
        *,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        dilated = [
            parts.unit(inputs, channels, 3)
            if convolution is None
            else convolution.unit(parts, inputs, channels)
            for _ in rates
        ]
        pooled = nn.Sequential(parts.average_to(1), *parts.unit(inputs, channels))
        self.convs = nn.ModuleList([parts.unit(inputs, channels), *dilated, pooled])
        self.project = nn.Sequential(*parts.unit(len(self.convs) * channels, channels), nn.Dropout(dropout))
        self.set_rates(rates)

    def set_rates(self, rates: Sequence[int]) -> None:
        """Set the dilations of the 3×3 branches, in place."""
        for branch, rate in zip(list(self.convs)[1:-1], rates, strict=True):
            conv = next(m for m in branch.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
            set_steps(conv, (1,) * len(conv.kernel_size), (rate,) * len(conv.kernel_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = [branch(x) for branch in self.convs]
        branches[-1] = branches[-1].expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat(branches, dim=1))


class SeparableStyle:
    """How depthwise separable convolutions are made (Chollet 2017, arXiv:1610.02357).

    Args:
        norm_between: put a norm and a rectifier between the two convolutions (Chen et al. 2018,
            arXiv:1802.02611, section 4.3); segmentation_models.pytorch has none there.
    """

    def __init__(self, *, norm_between: bool) -> None:
        self.norm_between = norm_between

    def conv(self, parts: Parts, inputs: int, outputs: int) -> nn.Sequential:
        """A depthwise 3×3 convolution, then a pointwise one."""
        conv = nn.Sequential(parts.conv(inputs, inputs, 3, groups=inputs))
        if self.norm_between:
            conv.extend([parts.normalization(inputs), nn.ReLU(inplace=True)])
        return conv.append(parts.conv(inputs, outputs))

    def unit(self, parts: Parts, inputs: int, outputs: int) -> nn.Sequential:
        """The same, then a norm and a rectifier."""
        conv = self.conv(parts, inputs, outputs)
        return nn.Sequential(conv, parts.normalization(outputs), nn.ReLU(inplace=True))


class SummedASPP(nn.Module):
    """The sum of dilated 3×3 convolutions to class scores (Chen et al. 2016, arXiv:1606.00915, figure 7).

    Shapes: (B, ``inputs``, *S) to (B, ``classes``, *S). Weights start normal with deviation 0.01.
    """

    def __init__(self, parts: Parts, inputs: int, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = len(rates)
        for index, rate in enumerate(rates):
            conv = parts.conv(inputs, classes, 3, dilation=rate, bias=True)
            initialize_scores(conv, 0.01)
            self.add_module(f"c{index}", conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.get_submodule("c0")(x)
        for index in range(1, self.branches):
            total = total + self.get_submodule(f"c{index}")(x)
        return total
