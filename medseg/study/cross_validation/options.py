"""What a cross-validation does, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg.config.loading import check_overrides
from medseg.errors import ConfigError

Checkpoint = Literal["last", "best"]


@dataclass(frozen=True)
class CrossValidationConfig:
    """What is cross-validated, and how.

    Attributes:
        source: configuration file or settings, or a folder of cases, for which settings are planned once.
        overrides: settings, ``key=value``.
        folds: number of folds.
        budget: minutes of the whole study; if None, every fold is trained as the settings say.
        jobs: number of folds that are trained at the same time; they divide cores and GPUs.
        checkpoint: weights of each fold's model. ``last``: the held-out cases have no influence on it.
            ``best``: those with the best score on the held-out cases, whose scores are then too good.
        tta: choose mirrors and scales of test-time augmentation on the out-of-fold predictions, which are then
            made with them. It takes about 20 predictions of every case.
        strata: columns of the manifest whose values are distributed evenly over the folds, such as ``site``.

    Raises:
        ConfigError: if a number is out of range, or the overrides are one text.

    Example:
        >>> config = CrossValidationConfig("config.yaml", folds=3, budget=60)
        >>> config.checkpoint
        'last'
    """

    source: Path | str | Mapping[str, Any]
    overrides: tuple[str, ...] = ()
    folds: int = 5
    budget: float | None = None
    jobs: int = 1
    checkpoint: Checkpoint = "last"
    strata: tuple[str, ...] = ()
    tta: bool = False

    def __post_init__(self) -> None:
        check_overrides(self.overrides)
        if self.folds < 2:
            raise ConfigError(f"folds is {self.folds}, expected at least 2")
        if self.jobs < 1:
            raise ConfigError(f"jobs is {self.jobs}, expected at least 1")
        if self.budget is not None and self.budget <= 0:
            raise ConfigError(f"the budget is {self.budget:g} minutes, expected more than 0")

    @property
    def at_the_same_time(self) -> int:
        """Number of folds that are trained at the same time."""
        return min(self.jobs, self.folds)


@dataclass(frozen=True)
class FailedFold:
    """A fold whose training or prediction failed.

    Attributes:
        fold: number of the fold, from 0.
        reason: what happened.
        log: file with the output of the training.
    """

    fold: int
    reason: str
    log: Path

    def describe(self) -> str:
        """Return fold, reason and log in one line."""
        return f"fold {self.fold}: {self.reason} (log: {self.log})"


@dataclass(frozen=True)
class CrossValidationResult:
    """The result of a cross-validation.

    Attributes:
        output: folder of the study.
        table: one dict per fold, and one for all folds, as in ``table.csv``.
        markdown: the tables as in ``table.md``.
        model: the file of the ensemble; None while a fold is missing.
        failed: the folds that failed.
    """

    output: Path
    table: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    markdown: str = ""
    model: Path | None = None
    failed: list[FailedFold] = field(default_factory=list[FailedFold])
