"""Paired comparison of two methods on one label, or on the mean of the labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.comparison import significance
from medseg.evaluation.comparison.options import OVERALL, ComparisonOptions
from medseg.evaluation.comparison.scores import ScoreTable
from medseg.metrics.tables.intervals import mean_interval
from medseg.metrics.tables.statistics import label_mean_influence, mean_defined

FloatArray = NDArray[np.float64]
Decision = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class NonInferiority:
    """Whether a method is worse than the baseline by less than a margin.

    Attributes:
        margin: largest accepted loss of the mean.
        verdict: ``non-inferior``: the interval excludes a loss of the margin or more, and p is below the level
            of the tests; ``inferior``: the interval contains no smaller loss; else ``inconclusive``.
        p: p value of the one-sided permutation test against a loss of the margin.
    """

    margin: float
    verdict: Literal["non-inferior", "inferior", "inconclusive"]
    p: float


@dataclass(frozen=True)
class PairedResult:
    """One method in comparison with a baseline.

    Attributes:
        method, baseline: names.
        label: name of the label, or ``overall``: the mean of the labels' means.
        n, n_excluded: number of cases with a difference, and without.
        mean_method, mean_baseline: means over these cases.
        difference: ``mean_method`` - ``mean_baseline``.
        ci_low, ci_high: interval of the difference.
        median: median of the differences.
        wins, losses, ties: number of cases in which the method is better, worse, equal.
        p_permutation, p_wilcoxon: p values of the mean and of the signed ranks.
        p_permutation_holm, p_wilcoxon_holm: adjusted for the number of comparisons.
        rank_biserial, cohen_dz: effect sizes, positive where the method is better.
        improvement, improvement_low, improvement_high: probability that the method is better on a case.
        decision: ``better`` or ``worse`` if the adjusted permutation test is significant and the interval
            excludes 0.
        noninferiority: if a margin is given.
    """

    method: str
    baseline: str
    label: str
    n: int
    n_excluded: int
    mean_method: float
    mean_baseline: float
    difference: float
    ci_low: float
    ci_high: float
    median: float
    wins: int
    losses: int
    ties: int
    p_permutation: float
    p_wilcoxon: float
    rank_biserial: float
    cohen_dz: float
    improvement: float
    improvement_low: float
    improvement_high: float
    p_permutation_holm: float = math.nan
    p_wilcoxon_holm: float = math.nan
    decision: Decision = "undecided"
    noninferiority: NonInferiority | None = None


def compare_pair(
    table: ScoreTable,
    method: str,
    baseline: str,
    options: ComparisonOptions,
    cases: Sequence[int] | None = None,
) -> list[PairedResult]:
    """Compare two methods overall and on each label.

    Args:
        table: the scores.
        method, baseline: names of the methods.
        options: level, margin, seed.
        cases: indices of the cases that are compared. If None, all.

    Returns:
        The result over all labels first (only if there are several), then one per label. p values are not
        adjusted yet, see ``adjust``.
    """
    chosen = slice(None) if cases is None else list(cases)
    ours, theirs = (table.values[table.methods.index(name)][chosen] for name in (method, baseline))
    pair = _Pair(method, baseline, table.metric.sign, options)
    results = [pair.compare(label, ours[:, k], theirs[:, k]) for k, label in enumerate(table.labels)]
    if len(table.labels) == 1:
        return results
    return [pair.compare_overall(ours, theirs), *results]


def adjust(results: Sequence[PairedResult], alpha: float) -> list[PairedResult]:
    """Adjust p values for the number of comparisons and decide them.

    The results over all labels are one family of tests, those of the labels another: with M comparisons of
    methods and L labels, M and M·L tests.

    Returns:
        The results in the same order.
    """
    adjusted = list(results)
    for family in (True, False):
        members = [i for i, one in enumerate(results) if (one.label == OVERALL) == family]
        permutation = significance.holm([results[i].p_permutation for i in members])
        wilcoxon = significance.holm([results[i].p_wilcoxon for i in members])
        for i, p, q in zip(members, permutation, wilcoxon, strict=True):
            one = replace(results[i], p_permutation_holm=p, p_wilcoxon_holm=q)
            adjusted[i] = replace(one, decision=_decide(one, alpha))
    return adjusted


@dataclass(frozen=True)
class _Pair:
    method: str
    baseline: str
    sign: int
    options: ComparisonOptions

    def compare(self, label: str, ours: FloatArray, theirs: FloatArray) -> PairedResult:
        """Compare the scores (C,) of one label."""
        defined = ~np.isnan(ours - theirs)
        ours, theirs = ours[defined], theirs[defined]
        differences = ours - theirs
        return self._result(label, (ours, theirs), differences, differences, int((~defined).sum()))

    def compare_overall(self, ours: FloatArray, theirs: FloatArray) -> PairedResult:
        """Compare the scores (C, L) of all labels together."""
        differences = ours - theirs
        kept = ~np.isnan(differences).all(axis=1)
        means = tuple(label_mean_influence(scores) for scores in (ours, theirs))
        of_cases = mean_defined(differences[kept], axis=1)
        return self._result(
            OVERALL, (means[0], means[1]), label_mean_influence(differences), of_cases, int((~kept).sum())
        )

    def _result(
        self,
        label: str,
        scores: tuple[FloatArray, FloatArray],
        values: FloatArray,
        differences: FloatArray,
        excluded: int,
    ) -> PairedResult:
        """Compute the statistics of a sample.

        Args:
            label: name.
            scores: values of the method and of the baseline, for the means.
            values: the sample whose mean is the difference.
            differences: one per case, for ranks and counts.
            excluded: number of cases left out.
        """
        options, count = self.options, len(values)
        gains = significance.without_rounding(self.sign * differences)
        low, high = mean_interval(values, 1 - options.alpha, options.seed) if count else (math.nan, math.nan)
        share = significance.improvement(gains, 1 - options.alpha)
        low, high = float(low), float(high)
        return PairedResult(
            method=self.method, baseline=self.baseline, label=label, n=count, n_excluded=excluded,
            mean_method=_mean(scores[0]), mean_baseline=_mean(scores[1]), difference=_mean(values),
            ci_low=low, ci_high=high, median=float(np.median(differences)) if count else math.nan,
            wins=int((gains > 0).sum()), losses=int((gains < 0).sum()), ties=int((gains == 0).sum()),
            p_permutation=float(significance.permutation_p(values, options.seed)),
            p_wilcoxon=significance.signed_rank_p(differences),
            rank_biserial=significance.rank_biserial(gains),
            cohen_dz=significance.cohen_dz(self.sign * values),
            improvement=share[0], improvement_low=share[1], improvement_high=share[2],
            noninferiority=self._noninferiority(values, low, high),
        )  # fmt: skip

    def _noninferiority(self, values: FloatArray, low: float, high: float) -> NonInferiority | None:
        margin = self.options.margin
        if margin is None or not len(values):
            return None
        worst, best = (low, high) if self.sign > 0 else (-high, -low)
        p = float(significance.permutation_p(self.sign * values + margin, self.options.seed, one_sided=True))
        if worst > -margin and p < self.options.alpha:  # intervals of few cases are too narrow
            return NonInferiority(margin, "non-inferior", p)
        return NonInferiority(margin, "inferior" if best <= -margin else "inconclusive", p)


def _decide(result: PairedResult, alpha: float) -> Decision:
    excludes_zero = result.ci_low > 0 or result.ci_high < 0
    if not (result.p_permutation_holm < alpha and excludes_zero):
        return "undecided"
    return "better" if result.cohen_dz > 0 else "worse"


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else math.nan
