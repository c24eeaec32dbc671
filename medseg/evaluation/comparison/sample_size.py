"""How many cases a difference of the mean needs, from the variation between cases that was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.comparison.options import ComparisonOptions
from medseg.evaluation.comparison.scores import ScoreTable
from medseg.evaluation.comparison.statistics import cases_needed, detectable_difference
from medseg.metrics.tables.intervals import resample_weights
from medseg.metrics.tables.statistics import label_mean_influence

FloatArray = NDArray[np.float64]

POWERS = (0.8, 0.9)
_RESAMPLES = 2000


@dataclass(frozen=True)
class SampleSize:
    """The size of a study that detects a difference of two methods.

    Attributes:
        method, baseline: names.
        difference: the difference of the means that is to be detected; None if not given.
        deviation: standard deviation of the paired differences (of the mean over labels of each case).
        deviation_high: its upper 95% bootstrap limit: a small sample may underestimate it.
        observed_cases: number of cases it was computed from.
        cases: power → number of cases of a two-sided paired t test.
        cases_high: the same for ``deviation_high``.
        detectable: difference that ``observed_cases`` detect with a power of 0.8.
    """

    method: str
    baseline: str
    difference: float | None
    deviation: float
    deviation_high: float
    observed_cases: int
    cases: dict[float, int]
    cases_high: dict[float, int]
    detectable: float


def plan_sample_size(
    table: ScoreTable, method: str, baseline: str, difference: float | None, options: ComparisonOptions
) -> SampleSize | None:
    """Plan the number of cases that a difference needs.

    Args:
        table: the scores.
        method, baseline: names of the methods.
        difference: the difference of the means that is to be detected, if any.
        options: level and seed.

    Returns:
        None with fewer than two cases.
    """
    ours, theirs = (table.values[table.methods.index(name)] for name in (method, baseline))
    differences = label_mean_influence(ours - theirs)
    count = len(differences)
    if count < 2:
        return None
    deviation = float(differences.std(ddof=1))
    weights = resample_weights(count, _RESAMPLES, options.seed)
    centered = differences - differences.mean()
    squares = weights @ centered**2 - (weights @ centered) ** 2
    high = float(np.sqrt(np.quantile(np.maximum(squares, 0), 0.95) * count / (count - 1)))
    high = max(high, deviation)
    alpha = options.alpha
    powers = POWERS if difference else ()
    target = difference or math.nan
    return SampleSize(
        method, baseline, difference, deviation, high, count,
        {power: cases_needed(deviation, target, power, alpha) for power in powers},
        {power: cases_needed(high, target, power, alpha) for power in powers},
        detectable_difference(deviation, count, POWERS[0], alpha),
    )  # fmt: skip
