"""A weighted sum of losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from medseg.losses.base import SegmentationLoss


class WeightedSum(nn.Module):
    """Σ weight × loss. Shapes and errors are those of ``SegmentationLoss``.

    Args:
        terms: weight and loss of each term.
    """

    def __init__(self, terms: Sequence[tuple[float, SegmentationLoss]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.losses = nn.ModuleList(loss for _, loss in terms)

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None = None
    ) -> torch.Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()  # converted once for all terms
        values = [
            weight * loss(wide, target, annotated)
            for weight, loss in zip(self.weights, self.losses, strict=True)
        ]
        return cast(torch.Tensor, sum(values[1:], start=values[0]))
