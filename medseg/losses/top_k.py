"""Cross-entropy of the hardest voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from medseg.losses.base import ClassWeightedConfig, SegmentationLoss, counted_voxels, is_soft, mean_over
from medseg.task import Activation, Task


class TopKCrossEntropyConfig(ClassWeightedConfig):
    """Settings of ``TopKCrossEntropyLoss``.

    Inherited attributes: see ``ClassWeightedConfig``.

    Attributes:
        fraction: share of the voxels that are not ignored, those with the highest loss; 1: cross-entropy.
    """

    name: Literal["top_k_ce"] = "top_k_ce"
    fraction: float = Field(default=0.1, gt=0, le=1)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> TopKCrossEntropyLoss:
        """Build the loss. Raises: ConfigError as ``ClassWeightedConfig.resolve_weights``."""
        weights = self.resolve_weights(task, class_counts)
        return TopKCrossEntropyLoss(task.activation, fraction=self.fraction, class_weights=weights)


class TopKCrossEntropyLoss(SegmentationLoss):
    """Cross-entropy, averaged over the voxels of the batch with the highest loss (hard-example mining).

    With sigmoid, it is binary and every channel of a voxel counts by itself. At least one voxel is selected.
    Shapes and errors: ``SegmentationLoss``. Source: Wu et al. 2016, arXiv:1605.06885; with a
    share of 10% in Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.

    Args:
        activation: how logits become probabilities.
        fraction: share of the voxels.
        class_weights: (K,) weights of a weighted mean, as in ``CrossEntropyLoss``; voxels are selected by
            their weighted loss.

    Example:
        >>> logits = torch.tensor([4.0, 2.0, 0.0, -2.0]).view(1, 1, 1, 4)
        >>> loss = TopKCrossEntropyLoss("sigmoid", fraction=0.25)
        >>> round(loss(logits, torch.ones(1, 1, 1, 4)).item(), 4)  # log(1 + e²) of the last voxel
        2.1269
    """

    def __init__(
        self,
        activation: Activation = "softmax",
        *,
        fraction: float = 0.1,
        class_weights: torch.Tensor | None = None,
    ) -> None:
        super().__init__(activation, class_weights)
        self.fraction = fraction

    def compute(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        loss, weight = self._voxel_losses(logits, target)
        counted = counted_voxels(target if self.activation == "sigmoid" else target[:, :1])
        # the hardest voxels of the whole batch, also if several processes share it
        loss, weight, counted = (self.reduction.concatenate(one.flatten()) for one in (loss, weight, counted))
        # the number of selected voxels stays on the device; the size of topk is its upper bound
        selected = (self.fraction * counted.sum()).round().clamp(min=1)
        largest = min(round(self.fraction * counted.numel()) + 1, counted.numel())
        hardest, index = loss.masked_fill(~counted, -1).topk(largest)
        kept = (torch.arange(largest, device=loss.device) < selected) & counted[index]
        return mean_over((hardest * kept).sum(), (weight[index] * kept).sum())

    def _voxel_losses(self, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted loss of each voxel (with sigmoid, of each channel) and its weight."""
        weights = self.class_weights
        shape = (-1, *[1] * (logits.ndim - 2))
        if self.activation == "sigmoid":
            counted = counted_voxels(target)
            loss = F.binary_cross_entropy_with_logits(
                logits, target.to(logits.dtype) * counted, reduction="none"
            )
            weight = torch.ones_like(loss) if weights is None else weights.view(shape).expand_as(loss)
            return loss * weight, weight
        if is_soft(target):
            truth = target.to(logits.dtype).clamp(min=0)
            truth = truth if weights is None else truth * weights.view(shape)
            return -(truth * logits.log_softmax(1)).sum(1), truth.sum(1)
        labels = target.long().clamp(min=0)
        loss = -logits.log_softmax(1).gather(1, labels)
        weight = torch.ones_like(loss) if weights is None else weights[labels].to(loss.dtype)
        return loss * weight, weight
