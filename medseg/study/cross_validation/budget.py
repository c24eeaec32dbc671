"""Division of a study's time: what remains is divided over the folds that remain."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from medseg.errors import ConfigError
from medseg.progress import duration, plural
from medseg.training.pacing.budget_clock import TimeBudget

_LOGGER = logging.getLogger(__name__)

PREDICTION_SHARE = 0.1
"""Share of the time that is kept for predictions and scores before they were measured."""
REPORT_SECONDS = 15.0
"""Time that is kept for the tables and the report."""
SHORTEST_SECONDS = 10.0
"""Shortest budget of a fold."""
_NOTE_SECONDS = 5.0
_LEAST_EXCESS = 1.0
"""Seconds over the budget that are worth a warning."""


@dataclass(frozen=True)
class RemainingWork:
    """What a study has yet to do.

    Attributes:
        folds: folds to train.
        at_the_same_time: folds that are trained at the same time.
        scoring: estimated seconds of predictions and their scores; None before they were measured.
    """

    folds: int
    at_the_same_time: int
    scoring: float | None = None


@dataclass
class CaseClock:
    """Measures how long something takes for a case.

    Attributes:
        seconds: time used.
        cases: number of cases.
    """

    seconds: float = 0.0
    cases: int = 0

    def add(self, seconds: float, cases: int) -> None:
        """Count the time of some cases."""
        if cases:
            self.seconds += seconds
            self.cases += cases

    def estimate(self, cases: float) -> float | None:
        """Return the seconds that a number of cases will take; None if nothing was measured."""
        return cases * self.seconds / self.cases if self.cases else None


@dataclass(frozen=True)
class ScoringClocks:
    """Time of predictions by one model and of evaluations."""

    prediction: CaseClock = field(default_factory=CaseClock)
    evaluation: CaseClock = field(default_factory=CaseClock)

    def estimate(self, predictions: float, evaluations: float) -> float | None:
        """Return the seconds of a number of predictions and evaluations; None if they were not measured."""
        first, second = self.prediction.estimate(predictions), self.evaluation.estimate(evaluations)
        return None if first is None or second is None else first + second


def check_budget(budget: TimeBudget, folds: int, at_the_same_time: int) -> None:
    """Check that a budget is long enough for its folds.

    Raises:
        ConfigError: if an equal division gives each fold less than ``SHORTEST_SECONDS``.
    """
    rounds = math.ceil(folds / at_the_same_time)
    shortest = REPORT_SECONDS + rounds * SHORTEST_SECONDS / (1 - PREDICTION_SHARE)
    if budget.seconds < shortest:
        together = f", {at_the_same_time} at a time" if at_the_same_time > 1 else ""
        raise ConfigError(
            f"the budget is {budget.seconds:.0f} s, expected at least {math.ceil(shortest)} s: "
            f"{SHORTEST_SECONDS:.0f} s for each of {folds} folds{together}, and time for predictions and the "
            "report",
            hint="Give a longer --budget (in Python budget=) or fewer folds.",
        )


def warn_if_exceeded(budget: TimeBudget) -> None:
    """Warn if a study took longer than its budget."""
    excess = budget.used() - budget.seconds
    if excess > _LEAST_EXCESS:
        _LOGGER.warning(
            "the study took %s longer than its budget of %s", duration(excess), duration(budget.seconds)
        )


def fold_seconds(remaining: float, work: RemainingWork) -> float:
    """Return the time of the next folds, which are trained at the same time; at least ``SHORTEST_SECONDS``.

    It warns if the study will therefore take longer than its budget.

    Args:
        remaining: seconds that are left.
        work: what is left to do.

    Example:
        >>> fold_seconds(1015, RemainingWork(folds=5, at_the_same_time=2))
        300.0
        >>> fold_seconds(1015, RemainingWork(folds=5, at_the_same_time=1, scoring=100.0))
        180.0
    """
    left = remaining - REPORT_SECONDS
    kept = PREDICTION_SHARE * left if work.scoring is None else work.scoring
    equal = (left - kept) / math.ceil(work.folds / work.at_the_same_time)
    if equal < SHORTEST_SECONDS:
        _LOGGER.warning(
            "%.0f s of the budget are left to train and predict %s: each gets %.0f s, and the study takes "
            "longer than its budget",
            max(remaining, 0), plural(work.folds, "fold"), SHORTEST_SECONDS,
        )  # fmt: skip
    return max(equal, SHORTEST_SECONDS)


@contextmanager
def noting(budget: TimeBudget | None) -> Iterator[None]:
    """Record the time used every few seconds while the block runs, so that a killed study knows it."""
    if budget is None:
        yield
        return
    ended = threading.Event()

    def note() -> None:
        while not ended.wait(_NOTE_SECONDS):
            budget.note()

    thread = threading.Thread(target=note, name="medseg-clock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        budget.note(at_once=True)
