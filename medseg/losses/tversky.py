"""Tversky and focal Tversky loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field

from medseg.losses.base import ClassMean, RegionConfig, RegionLoss
from medseg.task import Activation, Task

_SMALLEST = 1e-7
"""Loss below which the gradient of a power is 0: a power below 1 has an infinite slope at 0."""


class TverskyConfig(RegionConfig):
    """Settings of ``TverskyLoss``.

    Inherited attributes: see ``RegionConfig``.

    Attributes:
        alpha: weight of false positives.
        beta: weight of false negatives. With alpha = beta = 0.5, the loss is the Dice loss; more weight on
            false negatives favors sensitivity.
        smooth: added to numerator and denominator.
    """

    name: Literal["tversky"] = "tversky"
    alpha: float = Field(default=0.3, ge=0)
    beta: float = Field(default=0.7, gt=0)
    smooth: float = Field(default=1e-5, gt=0)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> TverskyLoss:
        """Build the loss. Raises: ConfigError as ``ClassWeightedConfig.resolve_weights``."""
        mean = self.class_mean(task, class_counts)
        return TverskyLoss(task.activation, alpha=self.alpha, beta=self.beta, smooth=self.smooth, mean=mean)


class FocalTverskyConfig(RegionConfig):
    """Settings of a focal ``TverskyLoss``, which gives classes with little overlap more weight.

    Inherited attributes: see ``RegionConfig``.

    Attributes:
        alpha: weight of false positives.
        beta: weight of false negatives.
        gamma: the loss of a class has the exponent 1 / gamma.
        smooth: added to numerator and denominator.
    """

    name: Literal["focal_tversky"] = "focal_tversky"
    alpha: float = Field(default=0.3, ge=0)
    beta: float = Field(default=0.7, gt=0)
    gamma: float = Field(default=4 / 3, ge=1, le=3)
    smooth: float = Field(default=1e-5, gt=0)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> TverskyLoss:
        """Build the loss. Raises: ConfigError as ``ClassWeightedConfig.resolve_weights``."""
        return TverskyLoss(
            task.activation,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            smooth=self.smooth,
            mean=self.class_mean(task, class_counts),
        )


class TverskyLoss(RegionLoss):
    """Tversky loss, (1 - T)^(1 / γ) with T = (Σpg + smooth) / (Σpg + α Σp(1 - g) + β Σ(1 - p)g + smooth).

    Averaged over classes as ``DiceLoss``. Shapes, ignored voxels and errors: ``SegmentationLoss``.

    Sources: Salehi et al. 2017, arXiv:1706.05721 (γ = 1, α = 0.3, β = 0.7). Abraham and Khan 2019,
    arXiv:1810.07842 (γ = 4/3), who exchange α and β.

    Args:
        activation: how logits become probabilities.
        alpha, beta, smooth: see ``TverskyConfig``.
        gamma: exponent of the focal Tversky loss; 1: Tversky loss.
        mean: how the losses of the classes are averaged.

    Example:
        >>> target = torch.tensor([[[[0, 1], [1, 0]]]])
        >>> round(TverskyLoss()(torch.zeros(1, 2, 2, 2), target).item(), 4)  # 1 - 1 / (1 + 0.3 + 0.7)
        0.5
    """

    def __init__(
        self,
        activation: Activation = "softmax",
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        smooth: float = 1e-5,
        mean: ClassMean | None = None,
    ) -> None:
        super().__init__(activation, mean or ClassMean())
        self.alpha, self.beta, self.gamma, self.smooth = alpha, beta, gamma, smooth

    def compare(
        self, predicted: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor, over: list[int]
    ) -> torch.Tensor:
        overlap = self.batch_total((predicted * truth).sum(over))
        false_positives = (predicted * (1 - truth)).sum(over)
        false_negatives = ((counted - predicted) * truth).sum(over)
        errors = self.batch_total(self.alpha * false_positives + self.beta * false_negatives)
        loss = errors / (overlap + errors + self.smooth)  # 1 - T without cancellation
        if self.gamma == 1:
            return loss
        return torch.where(loss > _SMALLEST, loss.clamp(min=_SMALLEST) ** (1 / self.gamma), 0 * loss)
