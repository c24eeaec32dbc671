"""p-values and effect sizes of paired differences: permutation and signed-rank tests, Holm's adjustment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

PERMUTATIONS = 9999
TIE = 1e-10
"""Differences up to this size are ties: they come from rounding."""

_EXACT_CASES = 13
_BLOCK = 2**24
_DRAWN = 2**21


def permutation_p(differences: FloatArray, seed: int = 0, *, one_sided: bool = False) -> FloatArray:
    """Compute the p value of the mean of paired differences by changing their signs at random.

    The order of the resampled means is that of their t statistics, because a change of signs keeps the sum of
    squares; so the test also holds for large samples of skewed differences.

    Args:
        differences: (..., N), finite; one test for each row.
        seed: seed of the signs. All 2^N changes of signs are used for up to 13 cases, 9,999 of them for more.
        one_sided: test against a mean above 0 instead of any other mean.

    Returns:
        p values (...,); nan without cases.

    Example:
        >>> import numpy as np
        >>> float(permutation_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0])))  # 2 of the 2^5 means are as extreme
        0.0625
    """
    differences = np.asarray(differences, np.float64)
    cases = differences.shape[-1]
    rows = differences.reshape(math.prod(differences.shape[:-1]), cases)
    p = np.full(len(rows), math.nan)
    if cases:
        signs, exact = _signs(cases, seed)
        block = max(1, _BLOCK // len(signs))
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            total = part.sum(axis=1)
            slack = TIE * np.maximum(np.abs(part).sum(axis=1), TIE)
            count: NDArray[np.intp] = np.zeros(len(part), np.intp)
            for drawn in _blocks(signs):
                sums = drawn @ part.T
                if one_sided:
                    count += (sums >= total - slack).sum(axis=0)
                else:
                    count += (np.abs(sums) >= np.abs(total) - slack).sum(axis=0)
            p[start : start + block] = count / len(signs) if exact else (count + 1) / (len(signs) + 1)
    return p.reshape(differences.shape[:-1])


def fewest_cases(alpha: float = 0.05, tests: int = 1) -> int:
    """Return the smallest number of cases with which a two-sided test of signs can be significant.

    With N cases, no p value of the permutation or signed-rank test is below 2 / 2^N, also if all agree.

    Args:
        alpha: level of the test.
        tests: number of tests that Holm's procedure adjusts for.

    Example:
        >>> fewest_cases(), fewest_cases(tests=3)
        (6, 7)
    """
    cases = 1
    while tests * 2.0 ** (1 - cases) >= alpha:
        cases += 1
    return cases


def signed_rank_p(differences: FloatArray) -> float:
    """Compute the two-sided p value of Wilcoxon's signed-rank test; ties of 0 have ranks (Pratt 1959).

    It is exact for up to 13 cases, also with ties, and for up to 50 cases without ties.

    Args:
        differences: (N,), finite.

    Returns:
        1 if all differences are 0, nan without cases.
    """
    values = without_rounding(differences)
    if not values.size:
        return math.nan
    if not values.any():
        return 1.0
    if values.size <= _EXACT_CASES:
        return float(permutation_p(scipy_stats().rankdata(np.abs(values)) * np.sign(values)))
    return float(scipy_stats().wilcoxon(values, zero_method="pratt").pvalue)


def signed_ranks(differences: FloatArray) -> FloatArray:
    """Compute the ranks of the sizes of differences, with their signs; zeros have none.

    Args:
        differences: (..., N); nan is left out.

    Returns:
        Signed ranks (..., N), 0 where there is none. Their sum is W+ - W-, and has the variance of the sum of
        their squares if signs are random.

    Example:
        >>> import numpy as np
        >>> signed_ranks(np.array([0.0, -1.0, 2.0, 3.0])).tolist()
        [0.0, -1.0, 2.0, 3.0]
    """
    values = without_rounding(np.nan_to_num(differences, nan=0.0))
    zeros = (values == 0).sum(axis=-1, keepdims=True)
    return (scipy_stats().rankdata(np.abs(values), axis=-1) - zeros) * np.sign(values)


def rank_biserial(differences: FloatArray) -> float:
    """Compute the matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-) (Kerby 2014)."""
    if not np.size(differences):
        return math.nan
    ranks = signed_ranks(differences)
    total = float(np.abs(ranks).sum())
    return float(ranks.sum()) / total if total else 0.0


def cohen_dz(differences: FloatArray) -> float:
    """Compute the mean of the differences divided by their standard deviation (n - 1)."""
    if len(differences) < 2:
        return math.nan
    mean, deviation = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if deviation < TIE:
        return 0.0 if abs(mean) < TIE else math.copysign(math.inf, mean)
    return mean / deviation


def improvement(gains: FloatArray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Estimate the probability that a method is better on a new case; ties count one half.

    Args:
        gains: (N,) differences, positive where the method is better.
        confidence: level of the interval.

    Returns:
        The share of cases, and its interval (Wilson 1927).

    Example:
        >>> import numpy as np
        >>> share, low, high = improvement(np.array([1.0, 1.0, 0.0, -1.0]))
        >>> share, round(low, 2), round(high, 2)
        (0.625, 0.22, 0.91)
    """
    count = len(gains)
    if not count:
        return math.nan, math.nan, math.nan
    values = without_rounding(gains)
    share = float(((values > 0) + 0.5 * (values == 0)).mean())
    z = float(scipy_stats().norm.ppf((1 + confidence) / 2))
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return share, max(0.0, center - reach), min(1.0, center + reach)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for the number of tests (Holm 1979); nan is kept and not counted.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    adjusted = np.full(values.shape, math.nan)
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted.tolist()


def group_p(values: FloatArray, groups: NDArray[np.intp], seed: int = 0) -> float:
    """Compute the p value of a difference between groups, by exchanging cases between groups at random.

    The statistic is the F ratio, as in an analysis of variance.

    Args:
        values: (N,), finite.
        groups: (N,) number of the group of each case, from 0.
        seed: seed of the permutations.

    Returns:
        nan with fewer than two groups or no more cases than groups.
    """
    sizes = np.bincount(groups)
    sizes = sizes[sizes > 0]
    if len(sizes) < 2 or len(values) <= len(sizes):
        return math.nan
    members = np.equal.outer(np.unique(groups), groups).astype(np.float64)  # (G, N)
    centered = values - values.mean()
    rng = np.random.default_rng(seed)
    # the sum of squares between groups orders as the F ratio, because the total is fixed
    own = float(((members @ centered) ** 2 / sizes).sum())
    slack = TIE * max(own, TIE)
    count, step = 0, max(1, _DRAWN // len(values))
    for start in range(0, PERMUTATIONS, step):
        rows = min(step, PERMUTATIONS - start)
        shuffled = rng.permuted(np.broadcast_to(centered, (rows, len(values))), axis=1)
        between = ((shuffled @ members.T) ** 2 / sizes).sum(axis=1)
        count += int((between >= own - slack).sum())
    return (count + 1) / (PERMUTATIONS + 1)


def without_rounding(differences: FloatArray) -> FloatArray:
    """Return the differences, those up to ``TIE`` as 0, and rounded so that equal sizes tie."""
    values = np.round(np.asarray(differences, np.float64), 10)
    return np.where(np.abs(values) <= TIE, 0.0, values)


@lru_cache(maxsize=2)
def _signs(cases: int, seed: int) -> tuple[NDArray[np.int8], bool]:
    """Return signs (R, N) of 1 and -1, and whether they are all there are."""
    if cases <= _EXACT_CASES:
        numbers: NDArray[np.intp] = np.arange(2**cases, dtype=np.intp)
        bits = (numbers[:, None] >> np.arange(cases, dtype=np.intp)) & 1
        return (1 - 2 * bits).astype(np.int8), True
    draws = np.random.default_rng(seed).integers(0, 2, size=(PERMUTATIONS, cases), dtype=np.int8)
    draws *= -2
    draws += 1
    return draws, False


def _blocks(signs: NDArray[np.int8]) -> Iterator[FloatArray]:
    """Yield signs (R, N) in blocks of rows, as numbers that a product can take."""
    step = max(1, _DRAWN // signs.shape[1])
    for start in range(0, len(signs), step):
        yield signs[start : start + step].astype(np.float64)


def scipy_stats() -> Any:
    """Return ``scipy.stats``, which takes a second to import."""
    return import_module("scipy.stats")
