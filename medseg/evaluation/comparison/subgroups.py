"""Differences between methods in groups of cases, such as sites, scanners or sexes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.errors import DataError
from medseg.evaluation.comparison import significance
from medseg.evaluation.comparison.method_pair import PairedResult, compare_pair
from medseg.evaluation.comparison.options import ComparisonOptions
from medseg.evaluation.comparison.scores import ScoreTable
from medseg.evaluation.comparison.sources import read_csv
from medseg.files import check_exists
from medseg.metrics.tables.statistics import mean_defined

Groups = Mapping[str, Mapping[str, str]]
"""Column → case → group."""

UNKNOWN = "(unknown)"
_MOST_GROUPS = 10
_NO_GROUP = ("", "na", "n/a", "nan", "null")


@dataclass(frozen=True)
class Subgroups:
    """The comparison of two methods in each group of a column.

    Attributes:
        column: name of the column of the metadata.
        method, baseline: names of the methods.
        groups: group → comparison of its cases over all labels, without adjusted p values.
        p_interaction: p value of the hypothesis that the difference is the same in all groups, by exchanging
            cases between groups; cases of unknown group are left out.
        p_interaction_holm: adjusted for the number of columns and pairs of methods.
    """

    column: str
    method: str
    baseline: str
    groups: Mapping[str, PairedResult]
    p_interaction: float
    p_interaction_holm: float = math.nan


def read_groups(path: Path) -> dict[str, dict[str, str]]:
    """Read groups of cases from a CSV table with a column ``case`` and one column per grouping.

    A column of more than ten different numbers is divided at its median. Cases with an empty cell, NA, nan or
    null are in no group, nor are those with none in a column of numbers.

    Raises:
        DataError: if there is no such file, the table has no cases or no other column, or a case appears twice.
    """
    check_exists(path)
    columns, rows, case = read_csv(path)
    if case is None or len(columns) < 2 or not rows:
        raise DataError(
            f"{path}: has the columns {', '.join(columns) or 'none'} and {len(rows)} rows, expected a column "
            "case and at least one column of groups",
            path=path,
        )
    cases = [row[case] for row in rows]
    twice = {name for name in cases if cases.count(name) > 1}
    if twice:
        raise DataError(f"{path}: cases appear twice: {', '.join(sorted(twice)[:5])}", path=path)
    return {
        column: _group_values({row[case]: (row[column] or "").strip() for row in rows})
        for column in columns
        if column != case
    }


def compare_subgroups(
    table: ScoreTable, groups: Groups, pairs: Sequence[tuple[str, str]], options: ComparisonOptions
) -> list[Subgroups]:
    """Compare methods within groups, and test whether groups differ.

    Args:
        table: the scores.
        groups: column → case → group; cases that are not listed are in the group ``(unknown)``.
        pairs: method and baseline.
        options: level, margin, seed.

    Raises:
        DataError: if no compared case is in a group of a column.
    """
    results: list[Subgroups] = []
    for column, group_of in groups.items():
        names = [group_of.get(case) or UNKNOWN for case in table.cases]
        if all(name == UNKNOWN for name in names):
            raise DataError(
                f"--groups: no compared case is in the column {column!r}",
                hint=f"Cases are named, for example, {table.cases[0]!r}.",
            )
        results += [_compare(table, column, names, pair, options) for pair in pairs]
    adjusted = significance.holm([one.p_interaction for one in results])
    return [replace(one, p_interaction_holm=p) for one, p in zip(results, adjusted, strict=True)]


def _compare(
    table: ScoreTable, column: str, names: Sequence[str], pair: tuple[str, str], options: ComparisonOptions
) -> Subgroups:
    method, baseline = pair
    members = {name: [i for i, one in enumerate(names) if one == name] for name in sorted(set(names))}
    results = {
        name: compare_pair(table, method, baseline, options, cases)[0] for name, cases in members.items()
    }
    ours, theirs = (table.values[table.methods.index(name)] for name in pair)
    differences = mean_defined(ours - theirs, axis=1)
    defined = [i for i, one in enumerate(names) if one != UNKNOWN and not np.isnan(differences[i])]
    numbers = {name: number for number, name in enumerate(members)}
    codes: NDArray[np.intp] = np.array([numbers[names[i]] for i in defined], np.intp)
    p = significance.group_p(differences[defined], codes, options.seed) if defined else math.nan
    return Subgroups(column, method, baseline, results, p)


def _group_values(values: Mapping[str, str]) -> dict[str, str]:
    """Return the groups of cases: the values, or the halves of a column of many numbers."""
    given = {case: value for case, value in values.items() if value.lower() not in _NO_GROUP}
    numeric = {case: value for case, value in given.items() if value.lower() != "none"}
    if len(set(numeric.values())) <= _MOST_GROUPS:
        return given
    try:
        numbers = {case: float(value) for case, value in numeric.items()}
    except ValueError:
        return given
    median = float(np.median(list(numbers.values())))
    return {case: f"≤ {median:g}" if number <= median else f"> {median:g}" for case, number in numbers.items()}
