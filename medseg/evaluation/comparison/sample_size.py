"""How many cases a difference of the mean needs, from the variation between cases that was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.comparison.options import ComparisonOptions
from medseg.evaluation.comparison.scores import ScoreTable
from medseg.evaluation.comparison.significance import scipy_stats
from medseg.metrics.tables.intervals import resample_weights
from medseg.metrics.tables.statistics import label_mean_influence

FloatArray = NDArray[np.float64]

POWERS = (0.8, 0.9)

_FEW_CASES = 5  # their standard deviation is known to a factor of 2.4, that of 2 cases to a factor of 16
_CONFIDENCE = 0.95
_RESAMPLES = 2000
_NO_VARIATION = 1e-9


@dataclass(frozen=True)
class SampleSize:
    """The size of a study that detects a difference of two methods.

    Attributes:
        method, baseline: names.
        difference: the difference of the means that is to be detected; None if not given.
        deviation: standard deviation of the paired differences (of the mean over labels of each case).
        deviation_high: its upper 95% limit, see ``deviation_limit``: a small sample may underestimate it.
        observed_cases: number of cases it was computed from.
        cases: power → number of cases of a two-sided paired t test; empty without a difference to detect, and
            if the differences of all cases are equal, from which no number follows.
        cases_high: the same for ``deviation_high``.
        detectable: difference that ``observed_cases`` detect with a power of 0.8.
        caution: what limits the numbers of cases, in words; empty if nothing does.
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
    caution: str = ""


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
    deviation, high = float(differences.std(ddof=1)), deviation_limit(differences, options.seed)
    alpha = options.alpha
    powers = POWERS if difference and deviation > _NO_VARIATION else ()
    target = difference or math.nan
    return SampleSize(
        method, baseline, difference, deviation, high, count,
        {power: cases_needed(deviation, target, power, alpha) for power in powers},
        {power: cases_needed(high, target, power, alpha) for power in powers},
        detectable_difference(deviation, count, POWERS[0], alpha),
        _caution(count, deviation) if difference else "",
    )  # fmt: skip


def _caution(count: int, deviation: float) -> str:
    if deviation <= _NO_VARIATION:
        return f"The differences of all {count} cases are equal, which says nothing about how much others vary."
    if count < _FEW_CASES:
        return (
            f"So few pilot cases ({count}) tell little about how much differences vary: compare at least "
            f"{_FEW_CASES}, better 10, before you plan a study."
        )
    return ""


def deviation_limit(differences: FloatArray, seed: int = 0) -> float:
    """Return the upper 95% limit of the standard deviation: the larger one of two limits.

    That of normal differences, s·sqrt((n - 1) / q) with the 5% quantile q of the chi-square distribution with
    n - 1 degrees of freedom (for pilot studies: Browne 1995, Statistics in Medicine 14, 1933), holds for few
    cases, where the bootstrap cannot exceed what was seen. The bootstrap limit is higher if a few of many cases
    differ by much more than the others.

    Args:
        differences: (N,), finite, at least two.
        seed: seed of the bootstrap.
    """
    count = len(differences)
    quantile = float(scipy_stats().chi2.ppf(1 - _CONFIDENCE, count - 1))
    normal = float(differences.std(ddof=1)) * math.sqrt((count - 1) / quantile)
    return max(normal, bootstrap_limit(differences, seed))


def bootstrap_limit(differences: FloatArray, seed: int = 0) -> float:
    """Return the upper 95% limit of the standard deviation by the percentile bootstrap."""
    count = len(differences)
    weights = resample_weights(count, _RESAMPLES, seed)
    centered = differences - differences.mean()
    squares = np.maximum(weights @ centered**2 - (weights @ centered) ** 2, 0)
    return math.sqrt(float(np.quantile(squares, _CONFIDENCE)) * count / (count - 1))


def cases_needed(deviation: float, difference: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the number of cases with which a paired t test detects a difference of the mean.

    Args:
        deviation: standard deviation of the differences between cases.
        difference: true difference of the means.
        power: probability that the test detects it.
        alpha: level of the two-sided test.

    Example:
        >>> cases_needed(deviation=1.0, difference=0.5)  # 34 in tables of the paired t test
        34
    """
    if deviation <= 0:
        return 2
    upper = 4
    while paired_power(deviation, difference, upper, alpha) < power:
        upper *= 2
    lower = 1 if upper == 4 else upper // 2
    while upper - lower > 1:
        middle = (lower + upper) // 2
        if paired_power(deviation, difference, middle, alpha) < power:
            lower = middle
        else:
            upper = middle
    return upper


def paired_power(deviation: float, difference: float, cases: int, alpha: float = 0.05) -> float:
    """Return the power of a paired t test: the probability that it detects a difference of the mean."""
    if cases < 2:
        return 0.0
    shift = abs(difference) / deviation * math.sqrt(cases)
    limit = float(scipy_stats().t.ppf(1 - alpha / 2, cases - 1))
    if shift > 30:
        return 1.0
    noncentral = scipy_stats().nct
    return float(noncentral.sf(limit, cases - 1, shift) + noncentral.cdf(-limit, cases - 1, shift))


def detectable_difference(deviation: float, cases: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest difference of the mean that a paired t test of ``cases`` cases detects."""
    if cases < 2 or deviation <= 0:
        return math.nan if cases < 2 else 0.0
    low, high = 0.0, deviation
    while paired_power(deviation, high, cases, alpha) < power:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        if paired_power(deviation, middle, cases, alpha) < power:
            low = middle
        else:
            high = middle
    return high
