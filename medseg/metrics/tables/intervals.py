"""Bootstrap intervals of means: BCa, and BCa extended to Student's t interval."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

RESAMPLES = 5000

_TIE = 1e-12
_BLOCK = 2**24
_DRAWS = 2**22
"""Most draws of resamples in memory at a time; fewer are kept for the next call."""


def mean_interval(values: FloatArray, confidence: float = 0.95, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Compute an interval of the mean that holds its level for skewed and bounded scores.

    It is the BCa interval, extended on each side to Student's t interval where that reaches further. Alone,
    BCa misses the mean too often if few cases differ by much in both directions, and Student's t if all of
    them differ in the same direction. With 50 cases, ``benchmarks/comparison.py`` measures the coverage of all
    three.

    Args:
        values: (..., N cases), finite; one interval is computed for each row.
        confidence: level of the two-sided interval.
        seed: seed of the resamples, which all rows share.

    Returns:
        Lower and upper bounds (...,). nan for fewer than two cases; the value itself if all cases are equal.

    Example:
        >>> import numpy as np
        >>> low, high = mean_interval(np.array([0.7, 0.8, 0.9, 0.8, 0.7, 0.9, 0.8]))
        >>> bool(low < 0.8 < high)
        True
    """
    values = np.asarray(values, np.float64)
    low, high = bca_interval(values, confidence, seed)
    cases = values.shape[-1]
    if cases < 2:
        return low, high
    mean, deviation = values.mean(axis=-1), values.std(axis=-1, ddof=1)
    reach = _stats().t.ppf((1 + confidence) / 2, cases - 1) * deviation / math.sqrt(cases)
    constant = np.ptp(values, axis=-1) == 0
    lower, upper = np.minimum(low, mean - reach), np.maximum(high, mean + reach)
    return np.where(constant, low, lower), np.where(constant, high, upper)


def bca_interval(values: FloatArray, confidence: float = 0.95, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Compute the bias-corrected and accelerated bootstrap interval of the mean (Efron 1987).

    Args:
        values: (..., N cases), finite; one interval is computed for each row.
        confidence: level of the two-sided interval.
        seed: seed of the resamples, which all rows share.

    Returns:
        Lower and upper bounds (...,). nan for fewer than two cases; the value itself if all cases are equal.
    """
    values = np.asarray(values, np.float64)
    rows = values.reshape(math.prod(values.shape[:-1]), values.shape[-1])
    bounds = np.full((2, len(rows)), math.nan)
    block = max(1, _BLOCK // RESAMPLES)
    if rows.shape[1] > 1:
        for start in range(0, len(rows), block):
            bounds[:, start : start + block] = _bca(rows[start : start + block], confidence, seed)
    low, high = bounds.reshape(2, *values.shape[:-1])
    return low, high


@lru_cache(maxsize=2)
def resample_weights(cases: int, resamples: int, seed: int) -> FloatArray:
    """Return how often each case is drawn in each bootstrap resample, divided by the number of cases.

    Args:
        cases: N.
        resamples: R.
        seed: seed of the draws.

    Returns:
        (R, N), read-only; its product with scores (N, L) is the mean of each resample.
    """
    weights = _draw_weights(np.random.default_rng(seed), cases, resamples)
    weights.setflags(write=False)
    return weights


def _draw_weights(rng: np.random.Generator, cases: int, resamples: int) -> FloatArray:
    chosen = rng.integers(cases, size=(resamples, cases))
    chosen += np.arange(resamples)[:, None] * cases
    return np.bincount(chosen.ravel(), minlength=resamples * cases).reshape(resamples, cases) / cases


def _resampled_means(rows: FloatArray, seed: int) -> FloatArray:
    """Return the means (RESAMPLES, rows) of each row over resamples of its values, in bounded memory."""
    cases = rows.shape[1]
    if RESAMPLES * cases <= _DRAWS:
        return resample_weights(cases, RESAMPLES, seed) @ rows.T
    rng, means = np.random.default_rng(seed), np.empty((RESAMPLES, len(rows)))
    block = max(1, _DRAWS // cases)
    for start in range(0, RESAMPLES, block):
        part = means[start : start + block]
        part[:] = _draw_weights(rng, cases, len(part)) @ rows.T
    return means


def _bca(rows: FloatArray, confidence: float, seed: int) -> tuple[FloatArray, FloatArray]:
    norm = _stats().norm
    mean = rows.mean(axis=1)
    deviations = rows - mean[:, None]
    squares = (deviations**2).sum(axis=1)
    constant = np.ptp(rows, axis=1) == 0
    scale = np.where(constant, 1.0, squares)
    acceleration = (deviations**3).sum(axis=1) / (6 * scale**1.5)
    offsets = np.sort(_resampled_means(deviations, seed), axis=0)
    tie = _TIE * np.sqrt(scale)
    below, equal = (offsets < -tie).sum(axis=0), (np.abs(offsets) <= tie).sum(axis=0)
    share = np.clip((below + 0.5 * equal) / RESAMPLES, 0.5 / RESAMPLES, 1 - 0.5 / RESAMPLES)
    bias = norm.ppf(share)
    bounds: list[FloatArray] = []
    for level in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + norm.ppf(level)
        remaining = np.maximum(1 - acceleration * shifted, 1e-9)
        offset = _column_quantiles(offsets, norm.cdf(bias + shifted / remaining))
        bounds.append(np.where(constant, rows[:, 0], mean + offset))
    return bounds[0], bounds[1]


def _column_quantiles(ascending: FloatArray, fractions: FloatArray) -> FloatArray:
    """Return one quantile of each sorted column (R, C), by linear interpolation."""
    position = fractions * (len(ascending) - 1)
    below = np.floor(position).astype(np.intp)
    above = np.minimum(below + 1, len(ascending) - 1)
    columns: NDArray[np.intp] = np.arange(ascending.shape[1], dtype=np.intp)
    low, high = ascending[below, columns], ascending[above, columns]
    return low + (position - below) * (high - low)


def _stats() -> Any:
    """Return ``scipy.stats``, which takes a second to import."""
    return import_module("scipy.stats")
