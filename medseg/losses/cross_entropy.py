"""Cross-entropy, of classes that exclude each other and of regions that may overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from medseg.losses.common import BalancedSpec, SegmentationLoss, counted_voxels, is_soft, mean_over
from medseg.task import IGNORE_INDEX, Activation, Task


class CrossEntropyConfig(BalancedSpec):
    """Cross-entropy.

    Attributes:
        label_smoothing: share ε of the target's probability that is spread evenly over all classes (with
            sigmoid: over yes and no) (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """

    name: Literal["ce"] = "ce"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> CrossEntropyLoss:
        """The loss. Raises: ConfigError if the class weights do not fit; see ``BalancedSpec.weights``."""
        return CrossEntropyLoss(
            task.activation,
            class_weights=self.weights(task, class_counts),
            label_smoothing=self.label_smoothing,
        )


class CrossEntropyLoss(SegmentationLoss):
    """Cross-entropy, averaged over the voxels that count; binary, averaged over channels too, with sigmoid.

    ``class_weights`` (K,) make it a weighted mean: a voxel weighs as its target's class (as in torch), with
    sigmoid as its channel. Shapes and errors: ``SegmentationLoss``.
    """

    def __init__(
        self,
        activation: Activation = "softmax",
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(activation, class_weights)
        self.label_smoothing = label_smoothing

    def compute(self, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
        if self.activation == "sigmoid":
            return self._sigmoid(logits, target)
        if is_soft(target):
            return self._soft(logits, target, known)
        if known is not None and self.label_smoothing:
            classes = torch.zeros_like(logits).scatter_(1, target.long().clamp(min=0), 1)
            return self._soft(logits, torch.where(counted_voxels(target), classes, IGNORE_INDEX), known)
        return self._softmax(logits, target)

    def _softmax(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        weights = self.class_weights
        labels = target[:, 0].long()
        total = F.cross_entropy(
            logits,
            labels,
            weight=None if weights is None else weights.to(logits.dtype),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        counted = counted_voxels(labels)
        if weights is None:
            return mean_over(total, counted.sum())
        return mean_over(total, (weights[labels.clamp(min=0)] * counted).sum())

    def _soft(self, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
        """Of probabilities: -Σ t log p, each class's share weighing as the class."""
        truth = target.to(logits.dtype) * counted_voxels(target)
        if known is None:
            even: float | torch.Tensor = 1 / logits.shape[1]
        else:  # a class that cannot be is no part of what certainty is spread over
            even = (known / known.sum(1, keepdim=True)).view(*known.shape, *[1] * (logits.ndim - 2))
        wanted = truth * (1 - self.label_smoothing) + self.label_smoothing * even
        if self.class_weights is not None:
            shape = (-1, *[1] * (logits.ndim - 2))
            truth, wanted = (one * self.class_weights.view(shape) for one in (truth, wanted))
        counted = counted_voxels(target[:, :1])
        return mean_over(-(wanted * logits.log_softmax(1) * counted).sum(), (truth * counted).sum())

    def _sigmoid(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        counted = counted_voxels(target)
        wanted = (target.to(logits.dtype) * counted) * (1 - self.label_smoothing) + self.label_smoothing / 2
        loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        weights = self.class_weights
        weight = counted if weights is None else counted * weights.view(-1, *[1] * (logits.ndim - 2))
        return mean_over((loss * weight).sum(), weight.sum())
