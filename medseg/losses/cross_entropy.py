"""Cross-entropy of mutually exclusive classes and of overlapping regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from medseg.losses.base import ClassWeightedConfig, SegmentationLoss, counted_voxels, is_soft
from medseg.task import IGNORE_INDEX, Activation, Task


class CrossEntropyConfig(ClassWeightedConfig):
    """Settings of ``CrossEntropyLoss``.

    Inherited attributes: see ``ClassWeightedConfig``.

    Attributes:
        label_smoothing: share ε of the target's probability that is spread evenly over all classes (with
            sigmoid: over presence and absence) (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """

    name: Literal["ce"] = "ce"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> CrossEntropyLoss:
        """Build the loss. Raises: ConfigError as ``ClassWeightedConfig.resolve_weights``."""
        return CrossEntropyLoss(
            task.activation,
            class_weights=self.resolve_weights(task, class_counts),
            label_smoothing=self.label_smoothing,
        )


class CrossEntropyLoss(SegmentationLoss):
    """Cross-entropy, averaged over the voxels that are not ignored.

    With sigmoid, it is binary and averaged over channels too. Shapes and errors: ``SegmentationLoss``.

    Args:
        activation: how logits become probabilities.
        class_weights: (K,) weights of a weighted mean: a voxel has the weight of its target's class (as in
            PyTorch), with sigmoid that of its channel.
        label_smoothing: share ε of the target's probability that is spread evenly over all classes.

    Example:
        >>> logits, target = torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.long)
        >>> round(CrossEntropyLoss()(logits, target).item(), 4)  # log 4: all four classes have probability 1/4
        1.3863
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

    def compute(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        if self.activation == "sigmoid":
            return self._sigmoid(logits, target)
        if is_soft(target):
            return self._soft(logits, target, annotated)
        if annotated is not None and self.label_smoothing:
            classes = torch.zeros_like(logits).scatter_(1, target.long().clamp(min=0), 1)
            return self._soft(logits, torch.where(counted_voxels(target), classes, IGNORE_INDEX), annotated)
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
            return self.mean(total, counted.sum())
        return self.mean(total, (weights[labels.clamp(min=0)] * counted).sum())

    def _soft(self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None) -> torch.Tensor:
        """Compute the loss of probabilities, -Σ t log p, where each class's share has the class's weight."""
        truth = target.to(logits.dtype) * counted_voxels(target)
        if annotated is None:
            even: float | torch.Tensor = 1 / logits.shape[1]
        else:  # smoothing is not spread over a class that was not annotated
            even = (annotated / annotated.sum(1, keepdim=True)).view(*annotated.shape, *[1] * (logits.ndim - 2))
        smoothed = truth * (1 - self.label_smoothing) + self.label_smoothing * even
        if self.class_weights is not None:
            shape = (-1, *[1] * (logits.ndim - 2))
            truth, smoothed = (one * self.class_weights.view(shape) for one in (truth, smoothed))
        counted = counted_voxels(target[:, :1])
        return self.mean(-(smoothed * logits.log_softmax(1) * counted).sum(), (truth * counted).sum())

    def _sigmoid(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        counted = counted_voxels(target)
        smoothed = (target.to(logits.dtype) * counted) * (1 - self.label_smoothing) + self.label_smoothing / 2
        loss = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
        weights = self.class_weights
        weight = counted if weights is None else counted * weights.view(-1, *[1] * (logits.ndim - 2))
        return self.mean((loss * weight).sum(), weight.sum())
