"""Focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from medseg.errors import ConfigError
from medseg.losses.common import BalancedSpec, SegmentationLoss, counted_voxels, is_soft, mean_over
from medseg.task import Activation, Task

Share = Annotated[float, Field(ge=0, le=1)]
Alpha = Share | tuple[Share, ...] | None


class FocalConfig(BalancedSpec):
    """Focal loss.

    Attributes:
        gamma: how strongly easy voxels are played down; 0 is cross-entropy.
        alpha: factor α of the positives; the negatives have 1 - α. With softmax one number is the
            foreground's (1 - α the background's), and one a class are the factors themselves. With
            sigmoid, one number for all regions or one a region. None: no factor.
    """

    name: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0)
    alpha: Alpha = None

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> FocalLoss:
        """The loss. Raises: ConfigError if alpha or the class weights do not fit the number of classes."""
        if isinstance(self.alpha, tuple) and len(self.alpha) != task.num_classes:
            raise ConfigError(
                f"loss.alpha has {len(self.alpha)} numbers, expected one, or {task.num_classes}, one for "
                "each channel of the logits"
            )
        return FocalLoss(
            task.activation,
            gamma=self.gamma,
            alpha=self.alpha,
            class_weights=self.weights(task, class_counts),
        )


class FocalLoss(SegmentationLoss):
    """-α (1 - p)^γ log p, p the probability of the truth, averaged over the voxels that count.

    With sigmoid it is binary and averaged over channels too. ``alpha`` (see ``FocalConfig``) is a factor, as
    in the paper; ``class_weights`` (K,) make a weighted mean, as in ``CrossEntropyLoss``, to which γ = 0
    without α comes down. Shapes and errors: ``SegmentationLoss``. Source: Lin et al. 2017,
    arXiv:1708.02002, equation 5.
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
        self.register_buffer("alpha", _factors(alpha), persistent=False)

    def compute(self, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
        return self._softmax(logits, target) if self.activation == "softmax" else self._sigmoid(logits, target)

    def _softmax(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if is_soft(target):
            raise ValueError("the focal loss is of labels, not of probabilities; use cross_entropy and dice")
        counted = counted_voxels(target)
        labels = target.long().clamp(min=0)
        loss = self._focal(logits.log_softmax(1).gather(1, labels))
        if self.alpha is not None:
            factors = self.alpha if self.alpha.ndim else torch.where(labels > 0, self.alpha, 1 - self.alpha)
            loss = loss * (factors[labels] if self.alpha.ndim else factors)
        weights = self.class_weights
        weight = counted if weights is None else weights[labels] * counted
        return mean_over((loss * weight).sum(), weight.sum())

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
        return mean_over((loss * weight).sum(), weight.sum())

    def _focal(self, log_p: torch.Tensor) -> torch.Tensor:
        # 1 - p without cancellation; kept off 0, where a power below 1 has an infinite slope
        missing = -torch.expm1(log_p)
        return -(missing.clamp(min=1e-7) ** self.gamma) * log_p


def _factors(alpha: float | Sequence[float] | None) -> torch.Tensor | None:
    return None if alpha is None else torch.tensor(alpha, dtype=torch.float32)
