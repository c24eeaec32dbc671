"""One trial of a sweep: training with pruning, prediction and scores of the validation cases."""

from __future__ import annotations

import logging
import math
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medseg.config.schema import RunConfig
from medseg.errors import DataError
from medseg.evaluation import EvaluationOptions, evaluate_cases
from medseg.evaluation.comparison.method_pair import mean_defined
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import run_cases
from medseg.inference.model.predictor import Predictor
from medseg.progress import Progress
from medseg.study.data_changes import advising
from medseg.study.run_scores import write_reference
from medseg.study.sweep.search_space.options import SECONDS
from medseg.study.sweep.storage import RUNGS
from medseg.training.fit import fit
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.tracking.callbacks import Callback, EpochInfo

_LOGGER = logging.getLogger(__name__)

_CHANGED = "Restore the dataset, or start a new study in another --output folder."


class Pruner(Protocol):
    """Receives the validation scores of a trial and decides whether it goes on.

    Attributes:
        ended: whether it has ended the trial.
    """

    ended: bool

    def is_worse(self, step: int, score: float, *, final: bool = False) -> bool:
        """Record a score; return whether the trial ends because others were better at this step.

        The final score of a training is recorded only.
        """
        ...


@dataclass(frozen=True)
class TrialJob:
    """What the run of a trial needs.

    Attributes:
        config: its settings.
        folder: receives the run folder ``run``, predictions and metrics.
        references: folder of the reference label maps, which all trials share.
        objectives: names of the objectives.
        pruner: decides whether the training goes on; None if no trial is pruned.
    """

    config: RunConfig
    folder: Path
    references: Path
    objectives: tuple[str, ...]
    pruner: Pruner | None = None


class PruningCallback(Callback):
    """Ends a training that is worse than others at the same point.

    Trainings are compared at equal epochs; with a time budget at equal tenths of it.

    Args:
        pruner: records the scores and decides.
        score: key of the score, such as ``dice``.
        epochs: length of the training.
        budget: time of the training; None if it has a number of epochs.
    """

    def __init__(self, pruner: Pruner, score: str, epochs: int, budget: TimeBudget | None = None) -> None:
        self.pruner, self.score, self.epochs, self.budget = pruner, score, epochs, budget

    def on_epoch_end(self, info: EpochInfo) -> None:
        """Report the score of a validation, and end the training if others were better."""
        value = info.scores.get(self.score, math.nan)
        if math.isnan(value):
            return
        position = info.epoch / self.epochs if self.budget is None else self.budget.used() / self.budget.seconds
        step = info.epoch if self.budget is None else int(RUNGS * min(position, 1.0))
        if self.pruner.is_worse(step, value, final=position >= 1):
            _LOGGER.info(
                "pruned after epoch %d: a validation %s of %.4f is too low beside that of the other trials",
                info.epoch, self.score, value,
            )  # fmt: skip
            info.stop()


def run_trial(job: TrialJob, progress: Progress) -> tuple[float, ...]:
    """Train, or continue a training that was interrupted, and measure the objectives on the validation cases.

    Returns:
        The value of each objective; of a trial that was pruned, nan.

    Raises:
        DataError: if a validation case cannot be predicted or scored, or cases changed since an interrupted
            training began.
    """
    train = job.config.train
    budget = None if train.budget is None else TimeBudget.of(train.budget)
    pruning = (
        () if job.pruner is None else (PruningCallback(job.pruner, job.objectives[0], train.epochs, budget),)
    )
    with advising(_CHANGED):
        result = fit(
            job.config, job.folder / "run", resume="auto", progress=progress, budget=budget, callbacks=pruning
        )
    if job.pruner is not None and job.pruner.ended:
        return (math.nan,) * len(job.objectives)
    return _measure(job, result.run, progress)


def _measure(job: TrialJob, run: Path, progress: Progress) -> tuple[float, ...]:
    """Predict and score the validation cases; predictions of an interrupted measurement are made again."""
    predictions = job.folder / "predictions"
    shutil.rmtree(predictions, ignore_errors=True)
    predictor = Predictor(run, device=job.config.train.device, amp=job.config.train.amp)
    cases = run_cases(run, "val")
    for case in cases:
        write_reference(case, predictor.header, job.references)
    with _only_errors(infer_cases.__module__):
        outcomes = infer_cases(predictor, cases, predictions, progress=progress)
    failed = [f"{one.case}: {one.error}" for one in outcomes if one.status == "failed"]
    if failed:
        raise DataError(f"validation cases could not be predicted: {'; '.join(failed)}")
    rows: Sequence[Mapping[str, Any]] = ()
    if job.objectives != (SECONDS,):
        boundary = any(one.partition(":")[0] in ("nsd", "hd95") for one in job.objectives)
        options = EvaluationOptions(
            missing="worst", metrics=("overlap", "boundary") if boundary else ("overlap",), jobs=1
        )
        rows = evaluate_cases(predictions, job.references, job.folder / "metrics", options).rows
    seconds = statistics.median(one.seconds for one in outcomes)
    return tuple(seconds if one == SECONDS else mean_score(rows, one) for one in job.objectives)


@contextmanager
def _only_errors(logger: str) -> Iterator[None]:
    """Hide the messages of a logger below ERROR, such as what differs between cases and training."""
    own = logging.getLogger(logger)
    level = own.level
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        own.setLevel(level)


def mean_score(rows: Sequence[Mapping[str, Any]], objective: str) -> float:
    """Return the mean of a metric over cases, then over labels, as in ``medseg evaluate``.

    Args:
        rows: one dict per case and label, as in ``cases.csv``.
        objective: a column, or ``COLUMN:LABEL`` for one label.

    Raises:
        DataError: if the score is not defined: no such label, or the label is in no case.

    Example:
        >>> rows = [{"name": "a", "dice": 0.5}, {"name": "a", "dice": 0.7}, {"name": "b", "dice": 1.0}]
        >>> mean_score(rows, "dice")
        0.8
    """
    column, _, label = objective.partition(":")
    names = [label] if label else list(dict.fromkeys(str(row["name"]) for row in rows))
    means = [
        mean_defined(np.array([float(row[column]) for row in rows if row["name"] == name], float), axis=0)
        for name in names
    ]
    value = float(mean_defined(np.array(means, float), axis=0)) if means else math.nan
    if math.isnan(value):
        labels = ", ".join(dict.fromkeys(str(row["name"]) for row in rows))
        raise DataError(f"objective {objective}: not defined for the validation cases; their labels: {labels}")
    return value
