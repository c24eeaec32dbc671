"""Statistics of scores that may be nan (undefined) or inf (distance of a missed structure)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95

_BLOCK = 2**21


def describe(values: Sequence[float], seed: int = 0) -> dict[str, float | int]:
    """Compute mean, spread, order statistics and a bootstrap interval of the mean of one score over cases.

    nan is left out and counted (n_nan). inf is counted (n_inf) and included: ``mean`` is then inf, and so are
    the order statistics that it reaches. ``mean_finite`` and ``sd`` (divided by n - 1) use the finite values
    only. ``n`` counts the values that are not nan. ``ci_low`` and ``ci_high`` are the 95 % percentile bootstrap
    interval of ``mean`` over cases. Statistics without values are nan.

    Example:
        >>> statistics = describe([0.5, 1.0, math.nan])
        >>> statistics["mean"], statistics["n"], statistics["n_nan"]
        (0.75, 2, 1)
    """
    scores = np.asarray(values, np.float64)
    defined = np.sort(scores[~np.isnan(scores)])
    finite = defined[np.isfinite(defined)]
    low, high = interval(bootstrap_means(scores[:, None], seed)[:, 0])
    return {
        "mean": float(defined.mean()) if defined.size else math.nan,
        "mean_finite": float(finite.mean()) if finite.size else math.nan,
        "sd": float(finite.std(ddof=1)) if finite.size > 1 else math.nan,
        "median": quantile(defined, 0.5),
        "q1": quantile(defined, 0.25),
        "q3": quantile(defined, 0.75),
        "min": quantile(defined, 0),
        "max": quantile(defined, 1),
        "ci_low": low,
        "ci_high": high,
        "n": int(defined.size),
        "n_nan": int(scores.size - defined.size),
        "n_inf": int(defined.size - finite.size),
    }


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
