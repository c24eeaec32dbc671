"""Comparison of methods on the same cases: statistics of pairs, rankings, subgroups, and the ceiling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, DataError
from medseg.evaluation.comparison.method_pair import PairedResult, adjust, compare_pair
from medseg.evaluation.comparison.options import OVERALL, ComparisonOptions, Metric
from medseg.evaluation.comparison.rankings import Ranking, rank_methods
from medseg.evaluation.comparison.sample_size import SampleSize, plan_sample_size
from medseg.evaluation.comparison.scores import ScoreTable, align_scores
from medseg.evaluation.comparison.significance import fewest_cases
from medseg.evaluation.comparison.sources import MethodScores
from medseg.evaluation.comparison.subgroups import Groups, Subgroups, compare_subgroups
from medseg.evaluation.evaluation import CaseFiles
from medseg.metrics import to_json
from medseg.metrics.tables.intervals import RESAMPLES

_FEW_CASES = 10


@dataclass(frozen=True)
class Comparison:
    """The comparison of methods on the same cases.

    Attributes:
        table: the scores that are compared, after missing results were replaced or left out.
        pairs: the comparisons of two methods, overall (if there are several labels) and on each label.
        rankings: by three schemes, overall and on each label.
        subgroups: the comparisons in groups of cases.
        observer: the methods in comparison with a second observer.
        complete_cases: the comparisons that decide, without the cases in which a missing result was replaced by
            the worst score; empty if there are none.
        sample_sizes: the detectable difference of each pair, and the number of cases that a difference needs.
        secondary: the comparisons of further metrics.
        options: what was compared, and how.
        notes: what limits the conclusions.
        sources: method → name of its file or folder.
        files: method → case → its files, as far as they are known; reports draw them.
        schema: names and values of the labels in these files; None if unknown.
    """

    table: ScoreTable
    pairs: tuple[PairedResult, ...]
    rankings: tuple[Ranking, ...]
    subgroups: tuple[Subgroups, ...]
    observer: tuple[PairedResult, ...]
    complete_cases: tuple[PairedResult, ...]
    sample_sizes: tuple[SampleSize, ...]
    secondary: tuple[Comparison, ...]
    options: ComparisonOptions
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    files: Mapping[str, Mapping[str, CaseFiles]] = field(default_factory=dict[str, Mapping[str, CaseFiles]])
    schema: LabelSchema | None = None

    @property
    def metric(self) -> Metric:
        """The compared metric."""
        return self.table.metric

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, without the observer."""
        return self.table.methods

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.table.labels

    @property
    def primary_label(self) -> str:
        """``overall``, or the only label."""
        return self.labels[0] if len(self.labels) == 1 else OVERALL

    @property
    def primary(self) -> tuple[PairedResult, ...]:
        """The comparisons that decide: over all labels, or on the only one."""
        return tuple(pair for pair in self.pairs if pair.label == self.primary_label)

    @property
    def fewest_cases(self) -> int:
        """The smallest number of cases with which the comparisons that decide can show a difference."""
        return fewest_cases(self.options.alpha, max(1, len(self.primary)))

    @cached_property
    def verdict(self) -> list[str]:
        """The result in words, one sentence or short paragraph per line."""
        from medseg.evaluation.comparison.verdict import describe_comparison

        return describe_comparison(self)

    def differences(self, method: str, baseline: str) -> dict[str, dict[str, float]]:
        """Return method - baseline by label and case; nan where a case is left out."""
        ours, theirs = (self.table.values[self.methods.index(name)] for name in (method, baseline))
        return {
            label: dict(zip(self.table.cases, (ours - theirs)[:, k].tolist(), strict=True))
            for k, label in enumerate(self.labels)
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as strict JSON; nan and inf become text.

        ``scores`` and ``substituted`` are nested lists by method, case and label.
        """
        from medseg.evaluation.comparison.verdict import describe_ceiling

        table = self.table
        return {
            "metric": to_json(asdict(self.metric)) | {"title": self.metric.title},
            "unit": table.unit,
            "methods": list(self.methods),
            "labels": list(self.labels),
            "cases": list(table.cases),
            "sources": dict(self.sources),
            "verdict": self.verdict,
            "results": _as_json(self.pairs),
            "complete_cases": _as_json(self.complete_cases),
            "rankings": _as_json(self.rankings),
            "subgroups": _as_json(self.subgroups),
            "observer": _as_json(self.observer),
            "observer_notes": describe_ceiling(self),
            "fewest_cases": self.fewest_cases,
            "sample_sizes": _as_json(self.sample_sizes),
            "secondary": [one.to_json() for one in self.secondary],
            "missing": to_json(table.missing),
            "missed_structures": {
                name: {"structures": one.structures, "missed": [list(key) for key in one.missed]}
                for name, one in table.misses.items()
            },
            "excluded": dict(table.excluded),
            "notes": list(self.notes),
            "scores": to_json(table.values.tolist()),
            "substituted": table.substituted.tolist(),
            "options": {
                name: getattr(self.options, name)
                for name in ("missing", "baseline", "margin", "detect", "penalty", "alpha", "resamples", "seed")
            },
            "definitions": self.definitions,
        }

    @property
    def definitions(self) -> dict[str, Any]:
        """How the numbers are defined."""
        options = self.options
        return {
            "difference": "mean over cases of method - baseline, paired by case",
            OVERALL: "mean over labels of the labels' means over cases",
            "interval": f"{1 - options.alpha:.0%} BCa bootstrap ({RESAMPLES} resamples), extended to Student's "
            "t interval",
            "p_permutation": "sign-flip permutation test of the mean, two-sided",
            "p_wilcoxon": "Wilcoxon signed-rank test (Pratt's zeros), two-sided",
            "holm": "over all pairs of methods for the overall results; over all pairs and labels for labels",
            "decision": f"Holm-adjusted permutation test below {options.alpha:g} and an interval without 0",
            "missing": options.missing,
            "seed": options.seed,
            "resamples_of_rankings": options.resamples,
        }


def compare_scores(
    methods: Sequence[MethodScores],
    options: ComparisonOptions | None = None,
    *,
    groups: Groups | None = None,
    observer: MethodScores | None = None,
) -> Comparison:
    """Compare the scores of methods, paired by case.

    Args:
        methods: at least two.
        options: metric, missing results, baseline, margin.
        groups: column → case → group, for the analysis of subgroups.
        observer: scores of a second observer against the same references: the ceiling. It is not ranked.

    Raises:
        ConfigError: if there are fewer than two methods, two have one name, or the baseline is none of them.
        DataError: if they have nothing to compare in common.

    Example:
        >>> rows = [[{"case": str(i), "name": "organ", "dice": dice} for i, dice in enumerate(scores)]
        ...         for scores in ([0.5, 0.6, 0.7, 0.8, 0.6, 0.7], [0.6, 0.7, 0.9, 0.9, 0.7, 0.8])]
        >>> comparison = compare_scores([MethodScores("old", rows[0]), MethodScores("new", rows[1])])
        >>> pair = comparison.pairs[0]
        >>> pair.method, pair.baseline, round(pair.difference, 3), pair.wins
        ('new', 'old', 0.117, 6)
    """
    options = options or ComparisonOptions()
    names = [method.name for method in methods]
    pairs = _pairs(names, options.baseline)
    table = align_scores(methods, options)
    results = adjust([r for pair in pairs for r in compare_pair(table, *pair, options)], options.alpha)
    beside = _compare_with_observer(methods, observer, table.cases, options)
    sizes = [plan_sample_size(table, *pair, options.detect, options) for pair in pairs]
    return Comparison(
        table,
        tuple(results),
        tuple(rank_methods(table, options)),
        tuple(compare_subgroups(table, groups, pairs, options)) if groups else (),
        beside,
        tuple(_compare_complete(table, pairs, options)),
        tuple(size for size in sizes if size is not None),
        tuple(
            compare_scores(methods, options.of_secondary(metric), groups=groups, observer=observer)
            for metric in options.also
        ),
        options,
        tuple(_notes(table, results, beside, options.alpha)),
        {method.name: method.source for method in methods},
        {method.name: method.files for method in methods},
        next((method.labels for method in methods if method.labels is not None), None),
    )


def _compare_complete(
    table: ScoreTable, pairs: Sequence[tuple[str, str]], options: ComparisonOptions
) -> list[PairedResult]:
    """Compare each pair without the cases in which a missing result of one of them was replaced."""
    results: list[PairedResult] = []
    for pair in pairs:
        replaced = np.any([table.substituted[table.methods.index(name)].any(axis=1) for name in pair], axis=0)
        if replaced.any():
            results.append(compare_pair(table, *pair, options, np.flatnonzero(~replaced).tolist())[0])
    return adjust(results, options.alpha)


def _pairs(names: Sequence[str], baseline: str | None) -> list[tuple[str, str]]:
    """Return method and baseline of each comparison.

    Raises:
        ConfigError: see ``compare_scores``.
    """
    if len(names) < 2:
        raise ConfigError(f"{len(names)} method to compare, expected at least two")
    if len(set(names)) < len(names):
        raise ConfigError(f"two methods have the same name: {', '.join(names)}", hint="Name them NAME=PATH.")
    if baseline is None:
        return [(names[j], names[i]) for i in range(len(names)) for j in range(i + 1, len(names))]
    if baseline not in names:
        raise ConfigError(f"--baseline {baseline}: not a method", hint=f"The methods are {', '.join(names)}.")
    return [(name, baseline) for name in names if name != baseline]


def _compare_with_observer(
    methods: Sequence[MethodScores],
    observer: MethodScores | None,
    compared: Sequence[str],
    options: ComparisonOptions,
) -> tuple[PairedResult, ...]:
    """Compare each method with an observer, on those of the compared cases that the observer annotated."""
    if observer is None:
        return ()
    annotated = {str(row["case"]) for row in observer.rows if row.get("status", "scored") == "scored"}
    if not annotated:
        raise DataError(f"{observer.name}: the observer annotated no case")
    cases = annotated.intersection(compared)
    if not cases:
        raise DataError(
            f"{observer.name}: the observer annotated {len(annotated)} cases (such as {min(annotated)}), "
            f"but none of the {len(compared)} that are compared (such as {min(compared)})"
        )
    kept = [
        replace(
            method,
            rows=[row for row in method.rows if str(row["case"]) in cases],
            reasons={case: reason for case, reason in method.reasons.items() if case in cases},
            requested=None,
        )
        for method in methods
    ]
    rows = [row for row in observer.rows if str(row["case"]) in cases]
    table = align_scores([*kept, replace(observer, rows=rows, reasons={})], options)
    options = replace(options, margin=None)
    results = [r for method in methods for r in compare_pair(table, method.name, observer.name, options)]
    return tuple(adjust(results, options.alpha))


def _notes(
    table: ScoreTable, results: Sequence[PairedResult], beside: Sequence[PairedResult], alpha: float
) -> list[str]:
    """Return what limits the conclusions."""
    own, of_observer = (_few_cases(some, alpha) for some in (results, beside))
    lines = [*table.notes, *([own] if own else [])]
    if of_observer and of_observer != own:
        lines.append(f"against {beside[0].baseline}, {of_observer}")
    single = [one for one in results if math.isclose(one.difference, 0, abs_tol=1e-12) and one.ties == one.n]
    if single and len(single) == len(results):
        lines.append("all scores are equal: are these results of the same predictions?")
    return lines


def _few_cases(results: Sequence[PairedResult], alpha: float) -> str:
    """Return a note if a comparison has few cases; empty if none has."""
    few = min((one.n for one in results), default=_FEW_CASES)
    if few >= _FEW_CASES:
        return ""
    tests = max(1, sum(one.label == results[0].label for one in results))
    adjusted = f" that is adjusted for {tests} comparisons" if tests > 1 else ""
    are = "case is" if few == 1 else "cases are"
    return (
        f"{few} {are} few: intervals are unreliable below {_FEW_CASES} cases, and "
        f"with {fewest_cases(alpha, tests) - 1} or fewer no test{adjusted} can reach p < {alpha:g}"
    )


def _as_json(results: Sequence[Any]) -> list[Any]:
    """Return the dictionaries of dataclasses as strict JSON."""
    return [to_json(asdict(result)) for result in results]
