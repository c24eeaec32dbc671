"""Soft Dice loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field

from medseg.losses.base import ClassWeightedConfig, SegmentationLoss, counted_voxels, is_soft, mean_over
from medseg.task import Activation, Task

Denominator = Literal["linear", "squared"]
Per = Literal["batch", "sample"]
Absent = Literal["skip", "count"]


class DiceConfig(ClassWeightedConfig):
    """Settings of ``DiceLoss``.

    Inherited attributes: see ``ClassWeightedConfig``.

    Attributes:
        denominator: ``linear``, Σp + Σg, or ``squared``, Σp² + Σg².
        per: compute the overlap over the whole ``batch``, or over each ``sample`` and average over samples.
        absent: ``skip`` excludes a class without voxels in these targets from the mean; with ``count``, it has
            an overlap of about 0 for any false positive.
        include_background: include class 0 in the mean. With sigmoid there is no background, and every region
            is included.
        smooth: added to numerator and denominator.
    """

    name: Literal["dice"] = "dice"
    denominator: Denominator = "linear"
    per: Per = "batch"
    absent: Absent = "skip"
    include_background: bool = False
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


class DiceLoss(SegmentationLoss):
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
        super().__init__(activation, class_weights)
        self.denominator: Denominator = denominator
        self.per: Per = per
        self.absent: Absent = absent
        self.include_background = include_background
        self.smooth = smooth

    def compute(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        first = 1 if self.activation == "softmax" and not self.include_background else 0
        if logits.shape[1] <= first:
            raise ValueError("the Dice loss without the background needs at least 2 classes; got 1")
        counted = counted_voxels(target).to(logits.dtype)
        if self.activation == "softmax":
            counted = counted[:, :1]
        probability, truth = self._probability_and_truth(logits, target, counted)
        probability, truth = probability[:, first:] * counted, truth[:, first:]

        over = [axis for axis in range(logits.ndim) if axis != 1 and (axis or self.per == "batch")]
        sizes = truth.sum(over)  # (K,), or (B, K) for each sample
        if self.denominator == "linear":
            total = probability.sum(over) + sizes
        else:
            total = probability.square().sum(over) + truth.square().sum(over)
        loss = 1 - (2 * (probability * truth).sum(over) + self.smooth) / (total + self.smooth)

        present = sizes > 0 if self.absent == "skip" else (counted.sum(over) > 0).expand_as(sizes)
        if annotated is not None:  # a class that was not annotated has no overlap
            present = present & (annotated.any(0) if self.per == "batch" else annotated)[..., first:]
        weight = present if self.class_weights is None else present * self.class_weights[first:]
        return mean_over((loss * weight).sum(), weight.sum())

    def _probability_and_truth(
        self, logits: torch.Tensor, target: torch.Tensor, counted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both as (B, K, *S); the truth is 0 where the target is ignored."""
        if self.activation == "sigmoid":
            return logits.sigmoid(), target.to(logits.dtype) * counted
        if is_soft(target):
            return logits.softmax(1), target.to(logits.dtype) * counted
        truth = torch.zeros_like(logits).scatter_(1, target.long().clamp(min=0), counted)
        return logits.softmax(1), truth
