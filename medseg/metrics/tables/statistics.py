"""Statistics of scores that may be nan (undefined) or inf (distance of a missed structure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.tables.intervals import RESAMPLES, mean_interval

FloatArray = NDArray[np.float64]

CONFIDENCE = 0.95

Range = tuple[float, float]
UNBOUNDED: Range = (-math.inf, math.inf)

_BLOCK = 2**21


def describe(values: Sequence[float], seed: int = 0) -> dict[str, float | int]:
    """Compute mean, spread, order statistics and intervals of one score over cases.

    nan is left out and counted (n_nan). inf is counted (n_inf) and included: ``mean`` is then inf, and so are
    the order statistics that it reaches. ``mean_finite`` uses the finite values only. ``n`` counts the values
    that are not nan. ``sd`` is divided by n - 1. ``ci_low`` and ``ci_high`` are the 95 % interval of ``mean``
    over cases by ``mean_interval``, ``median_ci_low`` and ``median_ci_high`` that of ``median`` by order
    statistics. Statistics without enough values are nan: no interval comes from one case.

    Example:
        >>> statistics = describe([0.5, 1.0, math.nan])
        >>> statistics["mean"], statistics["n"], statistics["n_nan"]
        (0.75, 2, 1)
    """
    return describe_columns(np.asarray(values, np.float64)[:, None], seed)[0]


def describe_columns(
    values: FloatArray, seed: int = 0, ranges: Sequence[Range] = ()
) -> list[dict[str, float | int]]:
    """Compute the statistics of :func:`describe` for each column of values (C cases, M columns).

    Columns that are defined in the same cases share their resamples.

    Args:
        values: (C cases, M columns).
        seed: seed of the resamples.
        ranges: smallest and largest possible value of each column; intervals do not exceed them.
    """
    low, high = mean_intervals(values, seed)
    if ranges:
        least, most = np.array(ranges, np.float64).reshape(-1, 2).T
        low, high = np.maximum(low, least), np.minimum(high, most)
    return [_describe(column, (float(low[index]), float(high[index]))) for index, column in enumerate(values.T)]


def _describe(values: FloatArray, mean_interval: tuple[float, float]) -> dict[str, float | int]:
    defined = np.sort(values[~np.isnan(values)])
    finite = defined[np.isfinite(defined)]
    median_low, median_high = median_interval(defined)
    spread = finite.size == defined.size and finite.size > 1
    return {
        "mean": float(defined.mean()) if defined.size else math.nan,
        "mean_finite": float(finite.mean()) if finite.size else math.nan,
        "sd": float(finite.std(ddof=1)) if spread else math.nan,
        "median": quantile(defined, 0.5),
        "q1": quantile(defined, 0.25),
        "q3": quantile(defined, 0.75),
        "min": quantile(defined, 0),
        "max": quantile(defined, 1),
        "ci_low": mean_interval[0],
        "ci_high": mean_interval[1],
        "median_ci_low": median_low,
        "median_ci_high": median_high,
        "n": int(defined.size),
        "n_nan": int(values.size - defined.size),
        "n_inf": int(defined.size - finite.size),
    }


def mean_intervals(values: FloatArray, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Compute the 95 % interval of the mean of each column of values (C cases, M columns), without nan.

    By ``mean_interval``, as in comparisons; the percentile bootstrap for columns with infinite values; nan for
    columns with fewer than two values.

    Returns:
        Lower and upper limits (M,).
    """
    low, high = np.full(values.shape[1], math.nan), np.full(values.shape[1], math.nan)
    patterns: dict[bytes, list[int]] = {}
    defined = ~np.isnan(values)
    for index, column in enumerate(values.T):
        kept = column[defined[:, index]]
        if np.isfinite(kept).all():
            patterns.setdefault(defined[:, index].tobytes(), []).append(index)
        elif kept.size > 1:
            low[index], high[index] = interval(bootstrap_means(kept[:, None], seed)[:, 0])
    for columns in patterns.values():
        kept = values[defined[:, columns[0]]][:, columns]
        if len(kept) > 1:
            low[columns], high[columns] = mean_interval(kept.T, CONFIDENCE, seed)
    return low, high


def interval_of_label_means(
    scores: FloatArray, seed: int = 0, bounds: Range = UNBOUNDED
) -> tuple[float, float]:
    """Compute the 95 % interval of the mean over labels of each label's mean over cases.

    By ``mean_interval`` of one value per case, see :func:`label_mean_influence`.

    Args:
        scores: (C cases, L labels), nan where a case does not have a label.
        seed: seed of the resamples.
        bounds: smallest and largest possible score; the interval does not exceed them.
    """
    low, high = mean_interval(label_mean_influence(scores), CONFIDENCE, seed)
    return float(np.maximum(low, bounds[0])), float(np.minimum(high, bounds[1]))


def label_mean_influence(scores: FloatArray) -> FloatArray:
    """Return one value per case whose mean is the mean of the labels' means, with its sampling variance.

    For the mean θ of the L label means m, of n cases of C each, a case has the value θ + Σ (s - m) C / (n L)
    over its labels: the linear part of the statistic, so that intervals of a mean apply. Without missing
    scores it is the mean over the labels of the case.

    Args:
        scores: (C, L), or differences of scores; nan where a case has none.

    Returns:
        Values of the cases with a score. nan labels and cases are left out.

    Example:
        >>> import numpy as np
        >>> label_mean_influence(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [1.5, 3.5]
    """
    defined = ~np.isnan(scores)
    counts = defined.sum(axis=0)
    labels = counts > 0
    if not labels.any():
        return np.empty(0)
    kept = defined[:, labels].any(axis=1)
    values, defined, counts = scores[kept][:, labels], defined[kept][:, labels], counts[labels]
    means = np.where(defined, values, 0.0).sum(axis=0) / counts
    scaled = np.where(defined, values - means, 0.0) * (len(values) / (counts * len(counts)))
    return means.mean() + scaled.sum(axis=1)


def mean_defined(values: FloatArray, axis: int) -> FloatArray:
    """Return the mean of the values that are not nan along an axis; nan without any."""
    defined = ~np.isnan(values)
    counts = np.asarray(defined.sum(axis=axis), np.float64)
    total = np.where(defined, values, 0.0).sum(axis=axis)
    return np.divide(total, counts, out=np.full(counts.shape, math.nan), where=counts > 0)


def median_interval(ascending: FloatArray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the distribution-free interval of the median of ascending values (N,), by order statistics.

    The limits are the k-th smallest and the k-th largest value, with the largest k for which the binomial
    distribution gives at least the confidence (Conover 1999, section 3.2); nan with too few values for any
    (fewer than six at 95 %). The percentile bootstrap covers a median less often than it states.

    Example:
        >>> median_interval(np.arange(1.0, 11.0))
        (2.0, 9.0)
    """
    size = ascending.size
    if not size:
        return math.nan, math.nan
    stats: Any = import_module("scipy.stats")
    k = int(stats.binom.ppf((1 - confidence) / 2, size, 0.5))
    return (float(ascending[k - 1]), float(ascending[size - k])) if k else (math.nan, math.nan)


def bootstrap_means(scores: FloatArray, seed: int = 0, resamples: int = RESAMPLES) -> FloatArray:
    """Compute the means of each column of scores over bootstrap resamples of the cases.

    All columns share the resamples. nan is left out; a column with only nan in a resample is nan. The result
    depends only on the scores and the seed.

    Args:
        scores: (C cases, L labels).
        seed: seed of the resamples.
        resamples: R.

    Returns:
        Means (R, L).
    """
    cases, columns = scores.shape
    means = np.full((resamples, columns), math.nan)
    if not scores.size:
        return means
    rng = np.random.default_rng(seed)
    defined = ~np.isnan(scores)
    filled = np.where(defined, scores, 0.0)
    block = max(1, _BLOCK // scores.size)
    for start in range(0, resamples, block):
        part = means[start : start + block]
        chosen = rng.integers(cases, size=(len(part), cases))
        counts = defined[chosen].sum(axis=1)
        np.divide(filled[chosen].sum(axis=1), counts, out=part, where=counts > 0)
    return means


def interval(means: FloatArray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the central interval of resampled means (R,); nan is left out."""
    defined = np.sort(means[~np.isnan(means)])
    tail = (1 - confidence) / 2
    return quantile(defined, tail), quantile(defined, 1 - tail)


def quantile(ascending: FloatArray, fraction: float) -> float:
    """Return the quantile of ascending values (N,) by linear interpolation; inf if an inf takes part."""
    if not ascending.size:
        return math.nan
    position = fraction * (ascending.size - 1)
    below = math.floor(position)
    low, share = float(ascending[below]), position - below
    if share == 0:
        return low
    high = float(ascending[below + 1])
    return low + share * (high - low) if math.isfinite(high) else high
