"""Division of a study's time: what remains is divided over the folds that remain."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from medseg.training.pacing.time_budget import TimeBudget

PREDICTION_SHARE = 0.1
"""Share of the time that is kept for predictions and scores before a prediction was measured."""
SHORTEST_SECONDS = 10.0
"""Shortest budget of a fold."""
_NOTE_SECONDS = 5.0


@dataclass(frozen=True)
class RemainingWork:
    """What a study has yet to do.

    Attributes:
        folds: folds to train.
        at_the_same_time: folds that are trained at the same time.
        predictions: cases to predict with one model each.
        seconds_per_prediction: measured; None before the first.
    """

    folds: int
    at_the_same_time: int
    predictions: int
    seconds_per_prediction: float | None = None


def fold_seconds(remaining: float, work: RemainingWork) -> float:
    """Return the time of the next folds, which are trained at the same time.

    Args:
        remaining: seconds that are left.
        work: what is left to do.

    Example:
        >>> fold_seconds(1000, RemainingWork(folds=5, at_the_same_time=2, predictions=50))
        300.0
        >>> fold_seconds(1000, RemainingWork(5, 1, predictions=50, seconds_per_prediction=2.0))
        180.0
    """
    if work.seconds_per_prediction is None:
        kept = PREDICTION_SHARE * remaining
    else:
        kept = work.predictions * work.seconds_per_prediction
    rounds = math.ceil(work.folds / work.at_the_same_time)
    return max((remaining - kept) / rounds, SHORTEST_SECONDS)


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
