"""A choice between candidates by out-of-fold scores, and what it is worth on other cases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.inference.postprocessing_search import LEAST_GAIN
from medseg.metrics.tables.statistics import mean_defined

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """A chosen candidate.

    Attributes:
        index: of the candidate; 0 if none helps.
        before: mean score of the first candidate, which changes nothing.
        after: mean score of the chosen one, on the cases that it was chosen on.
        unbiased: mean score if the candidate of each fold is chosen on the other folds.
    """

    index: int
    before: float
    after: float
    unbiased: float


def choose_candidate(scores: FloatArray, folds: NDArray[np.int64]) -> Choice:
    """Choose the candidate with the highest mean score.

    It is used if it adds at least ``LEAST_GAIN`` to the mean, and if choosing on the other folds does not make
    the held-out ones worse.

    Args:
        scores: (C, N) of each case and candidate; the first candidate changes nothing. nan is left out.
        folds: (C,) fold of each case.

    Example:
        >>> scores = np.array([[0.5, 0.7], [0.6, 0.7], [0.7, 0.9], [0.8, 0.8]])
        >>> choose_candidate(scores, np.array([0, 0, 1, 1])).index
        1
    """
    held_out = [scores[folds == fold, _best(scores[folds != fold])] for fold in np.unique(folds)]
    before, unbiased = _mean(scores[:, 0]), _mean(np.concatenate(held_out))
    index = _best(scores)
    if math.isnan(before) or unbiased < before:
        index = 0
    return Choice(index, before, _mean(scores[:, index]), unbiased)


def _best(scores: FloatArray) -> int:
    means = mean_defined(scores, axis=0)
    best = int(np.argmax(np.where(np.isnan(means), -math.inf, means)))
    return best if means[best] - means[0] >= LEAST_GAIN else 0


def _mean(values: FloatArray) -> float:
    return float(mean_defined(values, axis=0))
