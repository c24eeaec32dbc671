"""Soft Dice loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field

from medseg.losses.base import Absent, ClassMean, Per, RegionConfig, RegionLoss
from medseg.task import Activation, Task

Denominator = Literal["linear", "squared"]


class DiceConfig(RegionConfig):
    """Settings of ``DiceLoss``.

    Inherited attributes: see ``RegionConfig``.

    Attributes:
        denominator: ``linear``, Σp + Σg, or ``squared``, Σp² + Σg².
        smooth: added to numerator and denominator.
    """

    name: Literal["dice"] = "dice"
    denominator: Denominator = "linear"
    smooth: float = Field(default=1e-5, gt=0)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> DiceLoss:
        """Build the loss. Raises: ConfigError as ``ClassWeightedConfig.resolve_weights``."""
        return DiceLoss(
            task.activation,
            denominator=self.denominator,
            per=self.per,
            absent=self.absent,
            include_background=self.include_background or not task.background,
            class_weights=self.resolve_weights(task, class_counts),
            smooth=self.smooth,
        )


class DiceLoss(RegionLoss):
    """Soft Dice loss, 1 - (2 Σpg + smooth) / (Σp + Σg + smooth), averaged over classes.

    Sums are over the batch's voxels, with ``per="sample"`` over each sample's. A class that is absent from
    these targets is excluded from the mean. Without the background (softmax only), at least two classes are
    needed. Shapes, ignored voxels and errors: ``SegmentationLoss``.

    Source: Drozdzal et al. 2016, arXiv:1608.04117. Milletari et al. 2016, arXiv:1606.04797, square the
    denominator's terms: ``denominator="squared"``.

    Args:
        activation: how logits become probabilities.
        denominator, per, absent, include_background, smooth: see ``DiceConfig``.
        class_weights: (K,) weights of the mean over classes.

    Example:
        >>> target = torch.tensor([[[[0, 1], [1, 0]]]])
        >>> round(DiceLoss()(torch.zeros(1, 2, 2, 2), target).item(), 4)  # p = 1/2: 1 - 2 * 1 / (2 + 2)
        0.5
    """

    def __init__(
        self,
        activation: Activation = "softmax",
        *,
        denominator: Denominator = "linear",
        per: Per = "batch",
        absent: Absent = "skip",
        include_background: bool = False,
        class_weights: torch.Tensor | None = None,
        smooth: float = 1e-5,
    ) -> None:
        super().__init__(activation, ClassMean(per, absent, include_background, class_weights))
        self.denominator: Denominator = denominator
        self.smooth = smooth

    def compare(
        self, predicted: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor, over: list[int]
    ) -> torch.Tensor:
        if self.denominator == "linear":
            total = predicted.sum(over) + truth.sum(over)
        else:
            total = predicted.square().sum(over) + truth.square().sum(over)
        overlap = self.batch_total((predicted * truth).sum(over))
        return 1 - (2 * overlap + self.smooth) / (self.batch_total(total) + self.smooth)
