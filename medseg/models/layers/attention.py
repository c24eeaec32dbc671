"""Attention gates on skip connections."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from medseg.models.layers.axes import AxisTuple
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.padding import resize_linear

_OPEN = 3.0  # bias before a new gate's sigmoid, which lets 95% pass


class AttentionGate(nn.Module):
    """Additive attention gate (Oktay et al. 2018, arXiv:1804.03999, equations 1 and 2).

    Multiplies the skip's features by σ(ψ(relu(θ(skip) + φ(below)))). The coefficients, one per voxel for all
    channels, are computed on the grid of ``below``, to which θ brings the skip by a convolution as wide as
    its stride (as in the authors' code), and are interpolated linearly. The sum has as many channels as the
    skip. A new gate lets nearly everything pass; see ``open``.

    Shapes: skip (B, ``skip``, *S) and below (B, ``below``, *S / ``stride``) to (B, ``skip``, *S).

    Args:
        layers: creates the layers.
        skip: channels of the skip's features.
        below: channels of the features of the level below.
        stride: stride from the skip's level to the level below.
    """

    def __init__(self, layers: LayerFactory, skip: int, below: int, stride: AxisTuple) -> None:
        super().__init__()
        self.theta = layers.block_conv(skip, skip, stride)
        self.phi = layers.pointwise(below, skip)
        self.psi = layers.pointwise(skip, 1)
        self.open()

    def open(self) -> None:
        """Set the last bias so that the gate lets features pass, as the paper asks of new gates.

        The paper gives no number.
        """
        nn.init.constant_(self.psi.get_parameter("bias"), _OPEN)

    def coefficients(self, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        """Compute the share of each voxel of the skip that passes: (B, 1, *S), from 0 to 1."""
        coarse = self.psi(F.relu(self.theta(skip) + self.phi(below))).sigmoid()
        return resize_linear(coarse, skip.shape[2:])

    def forward(self, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        return skip * self.coefficients(skip, below)
