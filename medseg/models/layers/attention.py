"""Attention gates on skip connections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from medseg.models.layers.blocks import Layers
from medseg.models.layers.padding import linear_mode

_OPEN = 3.0  # the bias under a new gate's sigmoid, which lets 95 % through


class AttentionGate(nn.Module):
    """Additive attention: the skip's features times σ(ψ(relu(θ(skip) + φ(below)))) (Oktay et al. 2018,
    arXiv:1804.03999, equations 1 and 2).

    The coefficients, one a voxel for all channels, live on the grid of ``below``, to which θ brings the skip
    by a convolution as wide as its ``stride`` (as in the authors' code), and are interpolated linearly. The
    sum has as many channels as the skip. A new gate lets nearly everything pass; see ``open``.

    Shapes: skip (B, ``skip``, *S) and below (B, ``below``, *S / ``stride``) to (B, ``skip``, *S).
    """

    def __init__(self, layers: Layers, skip: int, below: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.theta = layers.reduce(skip, skip, stride)
        self.phi = layers.pointwise(below, skip)
        self.psi = layers.pointwise(skip, 1)
        self.mode = linear_mode(layers.spatial_dims)
        self.open()

    def open(self) -> None:
        """Set the last bias so that what comes in passes, as the paper asks of new gates (without a number)."""
        nn.init.constant_(self.psi.get_parameter("bias"), _OPEN)

    def coefficients(self, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        """(B, 1, *S), 0 to 1: how much of each voxel of the skip passes."""
        coarse = self.psi(F.relu(self.theta(skip) + self.phi(below))).sigmoid()
        if coarse.shape[2:] == skip.shape[2:]:
            return coarse
        return F.interpolate(coarse, size=skip.shape[2:], mode=self.mode, align_corners=False)

    def forward(self, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        return skip * self.coefficients(skip, below)
