"""Focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from medseg.errors import ConfigError
from medseg.losses.base import ClassWeightedConfig, SegmentationLoss, counted_voxels, is_soft
from medseg.task import Activation, Task

Share = Annotated[float, Field(ge=0, le=1)]
Alpha = Share | tuple[Share, ...] | None


class FocalConfig(ClassWeightedConfig):
    """Settings of ``FocalLoss``.

    Inherited attributes: see ``ClassWeightedConfig``.

    Attributes:
        gamma: exponent that reduces the weight of easy voxels; 0: cross-entropy.
        alpha: factor α of positives; negatives have 1 - α. With softmax, one number is the foreground's factor
            (the background's is 1 - α), and one number per class are the factors themselves. With sigmoid, one
            number for all regions, or one per region. None: no factor.
    """

    name: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0)
    alpha: Alpha = None

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> FocalLoss:
        """Build the loss. Raises: ConfigError if alpha or the class weights do not fit the task."""
        if isinstance(self.alpha, tuple) and len(self.alpha) != task.num_classes:
            raise ConfigError(
                f"loss.alpha has {len(self.alpha)} numbers, expected one, or {task.num_classes}: one for "
                "each channel of the logits"
            )
        return FocalLoss(
            task.activation,
            gamma=self.gamma,
            alpha=self.alpha,
            class_weights=self.resolve_weights(task, class_counts),
        )


class FocalLoss(SegmentationLoss):
    """Focal loss, -α (1 - p)^γ log p, averaged over the voxels that are not ignored.

    p is the probability of the true class. With sigmoid, the loss is binary and averaged over channels too.
    With γ = 0 and without α it equals ``CrossEntropyLoss``. Shapes and errors: ``SegmentationLoss``; soft
    labels are not supported. Source: Lin et al. 2017, arXiv:1708.02002, equation 5.

    Args:
        activation: how logits become probabilities.
        gamma: exponent γ.
        alpha: factor α; see ``FocalConfig``.
        class_weights: (K,) weights of a weighted mean, as in ``CrossEntropyLoss``.

    Example:
        >>> logits, target = torch.zeros(1, 2, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.long)
        >>> round(FocalLoss(gamma=2.0)(logits, target).item(), 4)  # (1/2)² log 2
        0.1733
    """

    alpha: torch.Tensor | None

    def __init__(
        self,
        activation: Activation = "softmax",
        *,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        class_weights: torch.Tensor | None = None,
    ) -> None:
        super().__init__(activation, class_weights)
        self.gamma = gamma
        self.register_buffer("alpha", _alpha_tensor(alpha), persistent=False)

    def compute(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        return self._softmax(logits, target) if self.activation == "softmax" else self._sigmoid(logits, target)

    def _softmax(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if is_soft(target):
            raise ValueError(
                "the focal loss does not support soft labels (probabilities); use the losses ce or dice"
            )
        counted = counted_voxels(target)
        labels = target.long().clamp(min=0)
        loss = self._focal(logits.log_softmax(1).gather(1, labels))
        if self.alpha is not None:
            factors = self.alpha if self.alpha.ndim else torch.where(labels > 0, self.alpha, 1 - self.alpha)
            loss = loss * (factors[labels] if self.alpha.ndim else factors)
        weights = self.class_weights
        weight = counted if weights is None else weights[labels] * counted
        return self.mean((loss * weight).sum(), weight.sum())

    def _sigmoid(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        counted = counted_voxels(target)
        positive = target == 1
        loss = self._focal(F.logsigmoid(torch.where(positive, logits, -logits)))
        channels = (-1, *[1] * (logits.ndim - 2))
        if self.alpha is not None:
            alpha = self.alpha.view(channels)
            loss = loss * torch.where(positive, alpha, 1 - alpha)
        weights = self.class_weights
        weight = counted if weights is None else counted * weights.view(channels)
        return self.mean((loss * weight).sum(), weight.sum())

    def _focal(self, log_p: torch.Tensor) -> torch.Tensor:
        # 1 - p without cancellation; clamped, as a power below 1 has an infinite slope at 0
        missing = -torch.expm1(log_p)
        return -(missing.clamp(min=1e-7) ** self.gamma) * log_p


def _alpha_tensor(alpha: float | Sequence[float] | None) -> torch.Tensor | None:
    return None if alpha is None else torch.tensor(alpha, dtype=torch.float32)
