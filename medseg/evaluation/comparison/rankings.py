"""Rankings of methods as challenges make them, and how stable they are when cases are resampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.comparison.options import OVERALL, ComparisonOptions
from medseg.evaluation.comparison.scores import ScoreTable
from medseg.evaluation.comparison.significance import signed_ranks, without_rounding
from medseg.metrics.tables.statistics import mean_defined

FloatArray = NDArray[np.float64]
Scheme = Literal["aggregate-then-rank", "rank-then-aggregate", "test-then-rank"]

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
_BLOCK = 2**22


@dataclass(frozen=True)
class Rank:
    """The place of a method in a ranking.

    Attributes:
        rank: from 1; methods that tie share the mean of their ranks.
        score: mean score, mean rank, or number of methods that it is significantly better than.
        low, high: interval of the rank over bootstrap resamples; those without any case of the label are left
            out.
        shares: share of the resamples in which the method has the ranks 1, 2, …; a tie counts for the lower
            number.
    """

    rank: float
    score: float
    low: float
    high: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Ranking:
    """A ranking of methods.

    Attributes:
        scheme: ``aggregate-then-rank``: by the mean score; ``rank-then-aggregate``: by the mean of the ranks in
            each case; ``test-then-rank``: by the number of methods that it is significantly better than in
            one-sided signed-rank tests, adjusted by Holm's procedure.
        label: a label, or ``overall``.
        methods: name → rank, best first.
        kendall_tau: mean correlation of the ranking with those of the resamples; 1 if it never changes.
    """

    scheme: Scheme
    label: str
    methods: dict[str, Rank]
    kendall_tau: float


def rank_methods(table: ScoreTable, options: ComparisonOptions) -> list[Ranking]:
    """Rank methods by three schemes, overall and on each label.

    Overall, ``aggregate-then-rank`` uses the mean of the labels' means, ``rank-then-aggregate`` the mean of the
    labels' mean ranks, and ``test-then-rank`` the tests of all labels (Maier-Hein et al. 2018, Wiesenfarth et
    al. 2021).

    Args:
        table: the scores.
        options: level, resamples, seed.

    Returns:
        The rankings over all labels first, then those of each label.
    """
    count = len(table.cases)
    draws = np.random.default_rng(options.seed).integers(count, size=(options.resamples, count))
    several = len(table.labels) > 1
    rankings: list[Ranking] = []
    for scheme in SCHEMES:
        own = _scores(table.goodness[None], scheme, options.alpha)[0]  # (M, L)
        resampled = _resample(table.goodness, draws, scheme, options.alpha)  # (R, M, L)
        samples = [(label, own[:, k], resampled[:, :, k]) for k, label in enumerate(table.labels)]
        if several:
            samples.insert(0, (OVERALL, _over_labels(own, scheme), _over_labels(resampled, scheme)))
        sign = table.metric.sign if scheme == "aggregate-then-rank" else -1 if "rank-then" in scheme else 1
        rankings += [
            _ranking(scheme, label, table.methods, (scores, sign * scores, drawn))
            for label, scores, drawn in samples
        ]
    order = [OVERALL, *table.labels]
    return sorted(rankings, key=lambda one: order.index(one.label))


def _resample(goodness: FloatArray, draws: NDArray[np.intp], scheme: Scheme, alpha: float) -> FloatArray:
    """Return the scores (R, M, L) of resamples of the cases (R, C) of goodness (M, C, L)."""
    block = max(1, _BLOCK // goodness.size)
    parts = np.array_split(draws, math.ceil(len(draws) / block))
    return np.concatenate([_scores(np.moveaxis(goodness[:, part], 1, 0), scheme, alpha) for part in parts])


def _over_labels(scores: FloatArray, scheme: Scheme) -> FloatArray:
    """Return the scores (..., M) over all labels (..., M, L)."""
    return scores.sum(axis=-1) if scheme == "test-then-rank" else mean_defined(scores, axis=scores.ndim - 1)


def _ranking(
    scheme: Scheme, label: str, methods: Sequence[str], scores: tuple[FloatArray, FloatArray, FloatArray]
) -> Ranking:
    """Create a ranking from scores (M,), those to show (M,), and those of resamples (R, M)."""
    own, shown, resampled = scores
    defined = resampled[~np.isnan(resampled).any(axis=1)]  # others have no case with the label
    resampled = defined if len(defined) else resampled
    ranks, drawn = _ranks(own), _ranks(resampled)
    places = _ranks(resampled, ties="min")
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    best_first = sorted(range(len(methods)), key=lambda i: (ranks[i], methods[i]))
    entries = {
        methods[i]: Rank(
            float(ranks[i]), float(shown[i]), float(low[i]), float(high[i]),
            tuple(float((places[:, i] == place).mean()) for place in range(1, len(methods) + 1)),
        )
        for i in best_first
    }  # fmt: skip
    return Ranking(scheme, label, entries, _mean_tau(ranks, drawn))


def _scores(goodness: FloatArray, scheme: Scheme, alpha: float) -> FloatArray:
    """Return scores (R, M, L) by which methods are ranked, higher first, from goodness (R, M, C, L)."""
    if scheme == "aggregate-then-rank":
        return mean_defined(goodness, axis=2)
    if scheme == "rank-then-aggregate":
        ranks = _stats().rankdata(-np.nan_to_num(without_rounding(goodness)), axis=1)
        return -mean_defined(np.where(np.isnan(goodness), math.nan, ranks), axis=2)
    return _significant_wins(goodness, alpha)


def _significant_wins(goodness: FloatArray, alpha: float) -> FloatArray:
    """Count the methods that each method (R, M, L) is significantly better than.

    The p values are those of one-sided signed-rank tests by the normal law, adjusted by Holm's procedure over
    all ordered pairs of methods.
    """
    methods = goodness.shape[1]
    pairs = [(a, b) for a in range(methods) for b in range(a + 1, methods)]
    z = np.stack([_signed_rank_z(goodness[:, a] - goodness[:, b]) for a, b in pairs], axis=-1)
    p: FloatArray = _stats().norm.sf(np.concatenate([z, -z], axis=-1))  # (R, L, 2 · pairs)
    order = np.argsort(p, axis=-1, kind="stable")
    factors: FloatArray = np.arange(p.shape[-1], 0, -1, dtype=np.float64)
    adjusted: FloatArray = np.take_along_axis(p, order, axis=-1) * factors
    rejected = np.empty(p.shape, np.bool_)
    np.put_along_axis(rejected, order, np.maximum.accumulate(adjusted, axis=-1) < alpha, axis=-1)
    wins = np.zeros((len(goodness), methods, goodness.shape[3]))
    for index, (a, b) in enumerate(pairs):
        wins[:, a] += rejected[..., index]
        wins[:, b] += rejected[..., index + len(pairs)]
    return wins


def _signed_rank_z(differences: FloatArray) -> FloatArray:
    """Return the standardized sums of signed ranks (R, L) of differences (R, C, L); 0 if all are 0."""
    ranks = signed_ranks(np.moveaxis(differences, 1, 2))
    deviation = np.sqrt((ranks**2).sum(axis=-1))
    return ranks.sum(axis=-1) / np.where(deviation > 0, deviation, 1.0)


def _ranks(scores: FloatArray, ties: Literal["average", "min"] = "average") -> FloatArray:
    """Return the ranks of scores (..., M), 1 for the highest; ties share the mean or the lowest number."""
    return _stats().rankdata(-np.round(scores, 10), method=ties, axis=-1)


def _mean_tau(ranks: FloatArray, drawn: FloatArray) -> float:
    """Return the mean agreement in order over pairs of methods (Kendall's tau-a; a tie in one counts 0)."""
    upper = np.triu_indices(len(ranks), 1)
    own = np.sign(ranks[upper[0]] - ranks[upper[1]])
    other = np.sign(drawn[:, upper[0]] - drawn[:, upper[1]])
    agreement = np.where((own == 0) & (other == 0), 1.0, own * other)
    return float(agreement.mean()) if agreement.size else math.nan


def _stats() -> Any:
    """Return ``scipy.stats``, which takes a second to import."""
    return import_module("scipy.stats")
