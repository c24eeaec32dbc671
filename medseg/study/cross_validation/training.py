"""Trainings of the folds, each in a process of its own."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medseg.config.schema import RunConfig, to_yaml
from medseg.data.curation.splits import FileSplit
from medseg.files import write_text
from medseg.progress import Progress, stage
from medseg.study.cross_validation.budget import RemainingWork, ScoringClocks, fold_seconds
from medseg.study.cross_validation.folder import FoldFolder
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.options import FailedFold
from medseg.study.cross_validation.settings import Study
from medseg.study.executors import CellCommand, CellResult, Executor
from medseg.training.pacing.budget_clock import TimeBudget

_LOGGER = logging.getLogger(__name__)

_SHORT_SHARE = 0.4
"""Share of an equal division of the budget below which a fold is too short to be compared with the others."""


@dataclass(frozen=True)
class FoldTrainer:
    """Trains the folds that are not trained yet, or continues with them.

    Attributes:
        study: the study.
        folds: its folds.
        executor: runs the trainings.
        budget: of the whole study; None for none.
        clocks: time of predictions and evaluations so far.
        progress: receives every fold.
    """

    study: Study
    folds: Folds
    executor: Executor
    budget: TimeBudget | None
    clocks: ScoringClocks
    progress: Progress

    @property
    def waiting(self) -> list[FoldFolder]:
        """The folds that are not trained yet."""
        every = [self.study.folder.fold(number) for number in range(self.study.request.folds)]
        return [fold for fold in every if not fold.is_trained]

    def rounds(self) -> Iterator[list[FailedFold]]:
        """Train the folds and yield the failures of each round, after which its folds can be predicted.

        With a budget, a round has as many folds as are trained at the same time, so that later rounds get what
        is left. Without one, there is one round.

        Raises:
            StudyStopped: on SIGTERM or SIGINT, after the trainings saved their state.
        """
        waiting = self.waiting
        size = len(waiting) if self.budget is None else self.study.request.at_the_same_time
        total = self.study.request.folds
        description = "training folds"
        with stage(self.progress, total, description, unit="folds", completed=total - len(waiting)):
            while waiting:
                chosen, waiting = waiting[:size], waiting[size:]
                minutes = self._minutes(len(chosen) + len(waiting))
                cells = [self._cell(fold, minutes) for fold in chosen]
                yield _failures(chosen, self.executor.run(cells, self._report))

    def _report(self, result: CellResult) -> None:
        self.progress.advance(result.describe())

    def _minutes(self, left: int) -> float | None:
        """Return the budget of the next folds."""
        if self.budget is None:
            return self.study.config.train.budget
        folds, request = self.folds, self.study.request
        held_out, tested = len(folds.fold_of), len(folds.test)
        predictions = held_out * left / request.folds + 2 * request.folds * tested  # members, then the ensemble
        scoring = self.clocks.estimate(predictions, held_out + (request.folds + 1) * tested)
        work = RemainingWork(left, request.at_the_same_time, scoring)
        return round(fold_seconds(self.budget.seconds - self.budget.used(), work) / 60, 4)

    def _warn_if_short(self, fold: FoldFolder, minutes: float) -> None:
        """Warn if a fold is trained for a much shorter time than with an equal division of the budget."""
        request = self.study.request
        if self.budget is None:
            return
        equal = self.budget.minutes / math.ceil(request.folds / request.at_the_same_time)
        if minutes < _SHORT_SHARE * equal:
            _LOGGER.warning(
                "%s trains for %.1f minutes only, because little time is left (%.1f would be an equal share): "
                "its scores are not comparable with those of the other folds",
                fold.name, minutes, equal,
            )  # fmt: skip

    def _cell(self, fold: FoldFolder, minutes: float | None) -> CellCommand:
        """Return the command of a fold; a training that has begun keeps its settings."""
        if not fold.run.config.is_file():
            write_text(fold.config, to_yaml(fold_config(self.study.config, fold, minutes)))
            if minutes is not None:
                self._warn_if_short(fold, minutes)
        arguments = ["train", str(fold.config), "--run", str(fold.run.root), "--resume", "auto"]
        return CellCommand.medseg(fold.name, arguments, fold.root)


def fold_config(config: RunConfig, fold: FoldFolder, minutes: float | None) -> RunConfig:
    """Return the settings of the training of a fold.

    Args:
        config: settings that all folds share.
        fold: the fold.
        minutes: budget of the training; None for none.
    """
    study = fold.root.absolute().parents[1].name
    tracking = config.train.tracking.named(f"{study}, {fold.name}")
    changes = {
        "data": config.data.model_copy(update={"split": FileSplit(file=fold.split.absolute())}),
        "train": config.train.model_copy(update={"budget": minutes, "tracking": tracking}),
    }
    return config.model_copy(update=changes)


def _failures(folds: Sequence[FoldFolder], results: Sequence[CellResult]) -> list[FailedFold]:
    failed: list[FailedFold] = []
    for fold, result in zip(folds, results, strict=True):
        if not fold.is_trained:
            lines = [line for line in result.tail().splitlines() if line.startswith("error:")]
            reason = lines[-1].removeprefix("error: ") if lines else f"exit code {result.exit_code}"
            failed.append(FailedFold(fold.number, reason, result.cell.log))
    return failed
