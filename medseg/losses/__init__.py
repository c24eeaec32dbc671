"""Losses. ``PlainLossConfig`` is their registry: a formula is one file and one member of the union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from medseg.config.base import Spec
from medseg.losses.common import SegmentationLoss
from medseg.losses.cross_entropy import CrossEntropyConfig, CrossEntropyLoss
from medseg.losses.deep_supervision import DeepSupervisionLoss
from medseg.losses.dice import DiceConfig, DiceLoss
from medseg.losses.focal import FocalConfig, FocalLoss
from medseg.losses.weighted_sum import WeightedSum
from medseg.task import Task

PlainLossConfig = Annotated[
    CrossEntropyConfig | DiceConfig | FocalConfig,
    Field(discriminator="name"),
]


class WeightedTerm(Spec):
    """One term of a sum: its weight and its loss."""

    weight: PositiveFloat = 1.0
    loss: PlainLossConfig


class SumConfig(Spec):
    """A weighted sum of losses."""

    name: Literal["sum"] = "sum"
    terms: tuple[WeightedTerm, ...] = Field(min_length=1)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> WeightedSum:
        """The loss. Raises: ConfigError if the settings of a term do not fit the task."""
        return WeightedSum([(term.weight, term.loss.build(task, class_counts)) for term in self.terms])


LossConfig = Annotated[PlainLossConfig | SumConfig, Field(discriminator="name")]


def default_loss() -> SumConfig:
    """Dice plus cross-entropy, one to one (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."""
    return SumConfig(terms=(WeightedTerm(loss=DiceConfig()), WeightedTerm(loss=CrossEntropyConfig())))


__all__ = [
    "CrossEntropyConfig",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "DiceConfig",
    "DiceLoss",
    "FocalConfig",
    "FocalLoss",
    "LossConfig",
    "PlainLossConfig",
    "SegmentationLoss",
    "SumConfig",
    "WeightedSum",
    "WeightedTerm",
    "default_loss",
]
