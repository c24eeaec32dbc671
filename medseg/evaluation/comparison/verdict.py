"""A comparison in words: which method is better, on what, by how much, how sure, and where it fails."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from medseg.evaluation.comparison.method_pair import PairedResult
from medseg.evaluation.comparison.options import OVERALL
from medseg.evaluation.comparison.significance import fewest_cases

if TYPE_CHECKING:
    from medseg.evaluation.comparison.comparison import Comparison
    from medseg.evaluation.comparison.sample_size import SampleSize
    from medseg.evaluation.comparison.subgroups import Subgroups

_MOST_PAIRS = 6
_MOST_CASES = 3
_FEWEST_NEW = 3
"""Fewest cases from which the probability of being better on a new case is estimated."""


def describe_comparison(comparison: Comparison) -> list[str]:
    """Return the result in sentences, the most important ones first; details are indented by two spaces."""
    lines: list[str] = []
    if len(comparison.methods) > 2:
        lines.append(_describe_ranking(comparison))
    primary = comparison.primary
    for pair in primary[:_MOST_PAIRS]:
        lines += _describe_pair(comparison, pair)
    if len(primary) > _MOST_PAIRS:
        lines.append(f"{len(primary) - _MOST_PAIRS} more comparisons are in the table.")
    lines += _describe_secondary(comparison)
    lines += [_describe_subgroups(comparison, one) for one in comparison.subgroups[:_MOST_PAIRS]]
    lines += _describe_observer(comparison)
    lines += [line for size in comparison.sample_sizes for line in _describe_size(comparison, size)]
    return lines + _describe_missing(comparison)


def _describe_secondary(comparison: Comparison) -> list[str]:
    """Return the headlines of further metrics."""
    return [
        f"Secondary metric: {_headline(other, pair)}"
        for other in comparison.secondary
        for pair in other.primary[:_MOST_PAIRS]
    ]


def format_score(comparison: Comparison, value: float, *, signed: bool = False, unit: bool = True) -> str:
    """Format a score or a difference with the digits and the unit of the metric.

    Args:
        comparison: the comparison, which has the metric.
        value: the score.
        signed: whether to show a plus sign.
        unit: whether to show the unit.
    """
    if math.isnan(value):
        return "n/a"
    bounded = abs(comparison.metric.worst) <= 1
    digits = 3 if bounded else 2
    rounded = round(value, digits) + 0.0  # -0.0 becomes 0.0
    text = f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"
    ending = f" {comparison.table.unit}" if unit and comparison.table.unit else ""
    return text.replace("-", "−") + ending


def format_p(p: float) -> str:
    """Format a p value as a relation.

    Example:
        >>> format_p(0.0004), format_p(0.0312), format_p(0.4)
        ('p < 0.001', 'p = 0.031', 'p = 0.40')
    """
    if math.isnan(p):
        return "p not defined"
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _describe_pair(comparison: Comparison, pair: PairedResult) -> list[str]:
    if not pair.n:
        return [_headline(comparison, pair)]
    details = _describe_details(comparison, pair)
    return [_headline(comparison, pair), *(f"  {line}" for line in details)]


def _headline(comparison: Comparison, pair: PairedResult) -> str:
    """Say which method is better, by how much, and how sure that is."""
    title = comparison.metric.title
    method, baseline = pair.method, pair.baseline
    over = f"mean over {len(comparison.labels)} labels, " if pair.label == OVERALL else ""
    if not pair.n:
        return f"{method} and {baseline} have no case in common."
    facts = (
        f"{title} {format_score(comparison, pair.mean_method)} against "
        f"{format_score(comparison, pair.mean_baseline)} ({over}{_cases(pair.n)}), a difference of "
        f"{format_score(comparison, pair.difference, signed=True)} ({_interval(comparison, pair)}; "
        f"{format_p(pair.p_permutation_holm)}{_adjusted(comparison)})."
    )
    if pair.decision == "undecided":
        return f"No difference between {method} and {baseline} is shown: {facts}"
    return f"{method} is {pair.decision} than {baseline}: {facts}"


def _describe_details(comparison: Comparison, pair: PairedResult) -> list[str]:
    method = pair.method
    lines = [
        f"{method} is better in {pair.wins} of {_cases(pair.n)}, worse in {pair.losses} and equal in "
        f"{pair.ties}{_improvement(pair)}."
    ]
    lines += _describe_uncertainty(comparison, pair)
    lines += _describe_complete(comparison, pair)
    if pair.label == OVERALL:
        lines.append(_describe_labels(comparison, pair))
    losses = _largest_losses(comparison, pair)
    if losses:
        lines.append(f"{method} loses most on {losses}.")
    lowest = pair.baseline if pair.decision == "worse" else method
    lines.append(f"{lowest} is worst on {_worst_scores(comparison, lowest, pair.label)}.")
    if pair.noninferiority is not None:
        lines.append(_describe_noninferiority(comparison, pair))
    return lines


def _improvement(pair: PairedResult) -> str:
    """Return the probability that the method is better on a new case; nothing with very few cases."""
    if pair.n < _FEWEST_NEW:
        return ""
    return (
        f": the probability that it is better on a new case is {pair.improvement:.0%} "
        f"({pair.improvement_low:.0%} to {pair.improvement_high:.0%})"
    )


def _describe_uncertainty(comparison: Comparison, pair: PairedResult) -> list[str]:
    """Describe what an undecided comparison could have detected, and tests that disagree."""
    lines: list[str] = []
    significant = pair.p_wilcoxon_holm < comparison.options.alpha
    if significant != (pair.decision != "undecided") and not math.isnan(pair.p_wilcoxon_holm):
        typical = "differs, but the mean does not clearly" if significant else "hardly differs, the mean does"
        lines.append(
            f"The signed-rank test disagrees ({format_p(pair.p_wilcoxon_holm)}): the typical case {typical}."
        )
    size = next(
        (s for s in comparison.sample_sizes if (s.method, s.baseline) == (pair.method, pair.baseline)), None
    )
    if pair.n < comparison.fewest_cases:
        names = f"{pair.method} and {pair.baseline}"
        tests = len(comparison.primary)
        lines.append(_cannot_decide(names, pair.n, comparison.options.alpha, tests))
    elif pair.decision == "undecided" and size is not None and size.detectable > 0:
        lines.append(
            f"That does not show that they are equal: {_cases(size.observed_cases)} detect a difference of "
            f"{format_score(comparison, size.detectable)} with a probability of 80%, smaller ones less often."
        )
    return lines


def _describe_complete(comparison: Comparison, pair: PairedResult) -> list[str]:
    """Describe the comparison without the cases in which a missing result counts as the worst score."""
    names = (pair.method, pair.baseline)
    result = next((r for r in comparison.complete_cases if (r.method, r.baseline) == names), None)
    if result is None or not result.n:
        return []
    shown = "no difference is shown" if result.decision == "undecided" else f"{names[0]} is {result.decision}"
    return [
        f"On the {_cases(result.n)} that both have results for, {shown}: a difference of "
        f"{format_score(comparison, result.difference, signed=True)} ({_interval(comparison, result)}; "
        f"{format_p(result.p_permutation_holm)})."
    ]


def _describe_labels(comparison: Comparison, overall: PairedResult) -> str:
    """List the labels on which a method is better, worse, or undecided, with their differences."""
    results = [
        pair
        for pair in comparison.pairs
        if (pair.method, pair.baseline) == (overall.method, overall.baseline) and pair.label != OVERALL
    ]
    parts: list[str] = []
    for decision in ("better", "worse", "undecided"):
        own = sorted((r for r in results if r.decision == decision), key=lambda r: -abs(r.difference))
        if own:
            shown = ", ".join(f"{r.label} ({format_score(comparison, r.difference, signed=True)})" for r in own)
            parts.append(f"{overall.method} is {decision} on {shown}" if decision != "undecided"
                         else f"no difference is shown on {shown}")  # fmt: skip
    return f"By label, {'; '.join(parts)}."


def _describe_noninferiority(comparison: Comparison, pair: PairedResult) -> str:
    result = pair.noninferiority
    assert result is not None
    margin = format_score(comparison, result.margin)
    gain = comparison.metric.sign
    worst = -pair.ci_low if gain > 0 else pair.ci_high
    names = f"{pair.method} is {{}} {pair.baseline}"
    allowed = f"a loss of up to {format_score(comparison, worst)}" if worst > 0 else "no loss"
    interval = "there is no interval" if math.isnan(worst) else f"the interval allows {allowed}"
    loss = f"{interval}, {format_p(result.p)}"
    if result.verdict == "non-inferior":
        return f"{names.format('not inferior to')} by the margin of {margin} ({loss})."
    if result.verdict == "inferior":
        return f"{names.format('inferior to')} by more than the margin of {margin} ({loss})."
    return f"Whether {names.format('inferior to')} by the margin of {margin} is not decided ({loss})."


def _largest_losses(comparison: Comparison, pair: PairedResult) -> str:
    """List the cases and labels in which the method is furthest behind."""
    sign = comparison.metric.sign
    labels = comparison.labels if pair.label == OVERALL else (pair.label,)
    differences = comparison.differences(pair.method, pair.baseline)
    losses = [
        (sign * value, f"{case} {label}" if len(comparison.labels) > 1 else case, value)
        for label in labels
        for case, value in differences[label].items()
        if sign * value < -1e-9
    ]
    return _join(
        f"{name} ({format_score(comparison, value, signed=True)})"
        for _, name, value in sorted(losses)[:_MOST_CASES]
    )


def _worst_scores(comparison: Comparison, method: str, label: str) -> str:
    """List the cases and labels with the worst scores of a method."""
    table, several = comparison.table, len(comparison.labels) > 1
    values = table.values[comparison.methods.index(method)]
    scores = [
        (table.metric.sign * float(values[c, k]), f"{case} {name}" if several else case, float(values[c, k]))
        for c, case in enumerate(table.cases)
        for k, name in enumerate(table.labels)
        if label in (name, OVERALL) and not math.isnan(values[c, k])
    ]
    return _join(
        f"{name} ({format_score(comparison, value)})" for _, name, value in sorted(scores)[:_MOST_CASES]
    )


def _describe_ranking(comparison: Comparison) -> str:
    """Name the first of each scheme and how often it stays first."""
    firsts: dict[str, list[str]] = {}
    own = comparison.rankings[0].label
    for ranking in comparison.rankings:
        if ranking.label == own:
            best = min(entry.rank for entry in ranking.methods.values())
            names = [name for name, entry in ranking.methods.items() if entry.rank == best]
            share = min(ranking.methods[name].shares[0] for name in names)
            firsts.setdefault(_join(names), []).append(f"{ranking.scheme} (in {share:.0%} of resamples)")
    return f"Ranked first: {'; '.join(f'{names} by {_join(schemes)}' for names, schemes in firsts.items())}."


def _describe_subgroups(comparison: Comparison, one: Subgroups) -> str:
    shown = ", ".join(
        f"{name} {format_score(comparison, result.difference, signed=True)} ({_cases(result.n)})"
        for name, result in one.groups.items()
    )
    p = one.p_interaction_holm
    differ = "the groups differ" if p < comparison.options.alpha else "no difference between groups is shown"
    return f"By {one.column}, {one.method} against {one.baseline}: {shown}; {differ} ({format_p(p)})."


def describe_ceiling(comparison: Comparison) -> list[str]:
    """Say for each method that is not shown to differ from the second observer what that means."""
    beside = _beside_observer(comparison)
    undecided = [pair for pair in beside if pair.decision == "undecided"]
    return [_describe_equality(comparison, pair, len(beside)) for pair in undecided]


def _beside_observer(comparison: Comparison) -> list[PairedResult]:
    """Return a result for each method: overall, or on the first label that the observer has."""
    return [pair for pair in comparison.observer if pair.label == comparison.observer[0].label]


def _describe_observer(comparison: Comparison) -> list[str]:
    lines: list[str] = []
    beside = _beside_observer(comparison)
    for pair in beside:
        on = f" on {pair.label}" if pair.label not in (OVERALL, comparison.primary_label) else ""
        place = {"better": "above", "worse": "below", "undecided": "not shown to differ from"}[pair.decision]
        lines.append(
            f"{pair.method} is {place} the agreement of {pair.baseline} with the reference: "
            f"{comparison.metric.title}{on} {format_score(comparison, pair.mean_method)} against "
            f"{format_score(comparison, pair.mean_baseline)}, a difference of "
            f"{format_score(comparison, pair.difference, signed=True)} ({_interval(comparison, pair)}; "
            f"{format_p(pair.p_permutation_holm)}; {_cases(pair.n)})."
        )
        if pair.decision == "undecided":
            lines.append(f"  {_describe_equality(comparison, pair, len(beside))}")
    return lines


def _describe_equality(comparison: Comparison, pair: PairedResult, tests: int) -> str:
    """Say whether a method that is not shown to differ from an observer is equal within the margin."""
    alpha, margin = comparison.options.alpha, comparison.options.margin
    names, interval = f"{pair.method} and {pair.baseline}", _interval(comparison, pair)
    if pair.n < fewest_cases(alpha, tests):
        return _cannot_decide(names, pair.n, alpha, tests)
    if margin is None:
        return (
            f"That does not show that {names} are equal: only an interval within a margin (--margin) does, "
            f"and no margin is given ({interval})."
        )
    shown = format_score(comparison, margin)
    if -margin < pair.ci_low and pair.ci_high < margin:
        return f"{names} are equal within the margin of {shown}: the {interval} lies within it."
    return f"That does not show that {names} are equal: the {interval} reaches beyond the margin of {shown}."


def _cannot_decide(names: str, cases: int, alpha: float, tests: int) -> str:
    adjusted = f" adjusted for {tests} comparisons" if tests > 1 else ""
    fewest = fewest_cases(alpha, tests)
    return (
        f"{_cases(cases)} cannot decide whether {names} differ: with fewer than {fewest} no test{adjusted} can "
        f"reach p < {alpha:g}."
    )


def _describe_size(comparison: Comparison, size: SampleSize) -> list[str]:
    if not size.difference:
        return []
    difference = format_score(comparison, size.difference)
    wanted = f"A difference of {difference} between {size.method} and {size.baseline}"
    if not size.cases:
        return [f"{wanted} needs an unknown number of cases. {size.caution}"]
    lines = [
        f"{wanted} needs {size.cases[0.8]} cases for a power of 80%, and {size.cases[0.9]} for 90%, "
        f"if differences vary as here (standard deviation {format_score(comparison, size.deviation)} in "
        f"{_cases(size.observed_cases)}); up to {size.cases_high[0.8]} and {size.cases_high[0.9]} if they "
        f"vary more (upper 95% limit {format_score(comparison, size.deviation_high)})."
    ]
    return [*lines, f"  {size.caution}"] if size.caution else lines


def _describe_missing(comparison: Comparison) -> list[str]:
    """List missing results and what is left out: always, because means depend on it."""
    lines: list[str] = []
    table = comparison.table
    worst = comparison.options.missing == "worst"
    for method, every in table.missing.items():
        reasons = {case: why for case, why in every.items() if not (worst and case in table.excluded)}
        if reasons:
            policy = "counted as the worst score" if worst else "left out for every method"
            lines.append(
                f"{method} has no result for {len(reasons)} of {len(table.cases)} cases, {policy}: "
                f"{_some([f'{case} ({reason})' for case, reason in reasons.items()])}."
            )
    for reason in dict.fromkeys(table.excluded.values()):
        names = [name for name, own in table.excluded.items() if own == reason]
        lines.append(f"Left out for every method, {len(names)} because {reason}: {_some(names)}.")
    return lines


def _interval(comparison: Comparison, pair: PairedResult) -> str:
    level = 1 - comparison.options.alpha
    low, high = (
        format_score(comparison, value, signed=True, unit=False) for value in (pair.ci_low, pair.ci_high)
    )
    return f"{level:.0%} interval {low} to {high}"


def _adjusted(comparison: Comparison) -> str:
    count = len(comparison.primary)
    return f" adjusted for {count} comparisons" if count > 1 else ""


def _cases(count: int) -> str:
    return f"{count} case" if count == 1 else f"{count} cases"


def _some(names: Sequence[str], most: int = _MOST_CASES) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _join(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:-1]) + (" and " if len(listed) > 1 else "") + listed[-1] if listed else ""
