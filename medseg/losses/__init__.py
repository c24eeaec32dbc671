"""Losses.

The union ``PlainLossConfig`` is the registry. To add a loss, write a module with its settings (a subclass of
``ClassWeightedConfig`` with a literal ``name``) and its formula (a subclass of ``SegmentationLoss``), and add
the settings to the union. ``RegionConfig`` and ``RegionLoss`` are the bases of losses that are averaged over
classes, such as Dice. Configuration files can then select it by name, and the contract tests in
``tests/losses/test_losses_contract.py`` run on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from medseg.config.base import Spec
from medseg.losses.base import (
    ClassMean,
    ClassWeightedConfig,
    RegionConfig,
    RegionLoss,
    SegmentationLoss,
    WeightedSum,
)
from medseg.losses.boundary import BoundaryConfig, BoundaryLoss
from medseg.losses.cl_dice import ClDiceConfig, ClDiceLoss
from medseg.losses.cross_entropy import CrossEntropyConfig, CrossEntropyLoss
from medseg.losses.custom_loss import CustomLoss, CustomLossConfig, LossFunction
from medseg.losses.deep_supervision import DeepSupervisionLoss, DeepWeights
from medseg.losses.dice import DiceConfig, DiceLoss
from medseg.losses.focal import FocalConfig, FocalLoss
from medseg.losses.lovasz import LovaszConfig, LovaszLoss
from medseg.losses.top_k import TopKCrossEntropyConfig, TopKCrossEntropyLoss
from medseg.losses.tversky import FocalTverskyConfig, TverskyConfig, TverskyLoss
from medseg.task import Task

PlainLossConfig = Annotated[
    CrossEntropyConfig
    | TopKCrossEntropyConfig
    | FocalConfig
    | DiceConfig
    | TverskyConfig
    | FocalTverskyConfig
    | LovaszConfig
    | BoundaryConfig
    | ClDiceConfig,
    Field(discriminator="name"),
]


class WeightedTerm(Spec):
    """One term of a sum.

    Attributes:
        weight: factor on the loss.
        loss: settings of the loss.
    """

    weight: PositiveFloat = 1.0
    loss: PlainLossConfig


class SumConfig(Spec):
    """Settings of a weighted sum of losses.

    Attributes:
        terms: losses and their weights.
    """

    name: Literal["sum"] = "sum"
    terms: tuple[WeightedTerm, ...] = Field(min_length=1)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> WeightedSum:
        """Build the loss. Raises: ConfigError if the settings of a term do not fit the task."""
        return WeightedSum([(term.weight, term.loss.build(task, class_counts)) for term in self.terms])


LossConfig = Annotated[PlainLossConfig | SumConfig | CustomLossConfig, Field(discriminator="name")]


def default_loss() -> SumConfig:
    """Return the settings of Dice plus cross-entropy with equal weights (Isensee et al. 2021,
    doi:10.1038/s41592-020-01008-z).
    """
    return SumConfig(terms=(WeightedTerm(loss=DiceConfig()), WeightedTerm(loss=CrossEntropyConfig())))


__all__ = [
    "BoundaryConfig",
    "BoundaryLoss",
    "ClDiceConfig",
    "ClDiceLoss",
    "ClassMean",
    "ClassWeightedConfig",
    "CrossEntropyConfig",
    "CrossEntropyLoss",
    "CustomLoss",
    "CustomLossConfig",
    "DeepSupervisionLoss",
    "DeepWeights",
    "DiceConfig",
    "DiceLoss",
    "FocalConfig",
    "FocalLoss",
    "FocalTverskyConfig",
    "LossConfig",
    "LossFunction",
    "LovaszConfig",
    "LovaszLoss",
    "PlainLossConfig",
    "RegionConfig",
    "RegionLoss",
    "SegmentationLoss",
    "SumConfig",
    "TopKCrossEntropyConfig",
    "TopKCrossEntropyLoss",
    "TverskyConfig",
    "TverskyLoss",
    "WeightedSum",
    "WeightedTerm",
    "default_loss",
]
