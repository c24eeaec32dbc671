"""Comparison of the cells of an ablation: means, and paired differences to the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.tables.intervals import mean_interval
from medseg.metrics.tables.statistics import label_mean_influence, mean_defined

FloatArray = NDArray[np.float64]

LOW_DICE = 0.5
"""Dice below which a case is counted as low."""


@dataclass(frozen=True)
class CellScores:
    """The Dice of a cell.

    Attributes:
        cases: ids of the cases.
        labels: names of the labels.
        seeds: seeds of the runs.
        dice: (R runs, C cases, L labels); nan where neither mask contains the label.
    """

    cases: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    dice: FloatArray

    @classmethod
    def of(cls, rows_of_seeds: Mapping[int, Sequence[Mapping[str, Any]]]) -> CellScores:
        """Collect the scores from the rows of each seed."""
        every = [row for rows in rows_of_seeds.values() for row in rows]
        cases = tuple(sorted({str(row["case"]) for row in every}))
        labels = tuple(dict.fromkeys(str(row["name"]) for row in every))
        dice = np.full((len(rows_of_seeds), len(cases), len(labels)), math.nan)
        for index, rows in enumerate(rows_of_seeds.values()):
            for row in rows:
                dice[index, cases.index(str(row["case"])), labels.index(str(row["name"]))] = row["dice"]
        return cls(cases, labels, tuple(rows_of_seeds), dice)

    @property
    def label_means(self) -> FloatArray:
        """(R, L) mean over cases."""
        return mean_defined(self.dice, axis=1)

    @property
    def seed_means(self) -> FloatArray:
        """(R,) mean Dice of each run: the mean of the labels' means over cases, as in ``medseg evaluate``."""
        return mean_defined(self.label_means, axis=1)

    @property
    def case_means(self) -> FloatArray:
        """(C,) Dice of each case: the mean over labels, then over runs."""
        return mean_defined(mean_defined(self.dice, axis=2), axis=0)

    @property
    def worst_tenth(self) -> float:
        """Mean Dice of the tenth of the cases with the lowest Dice, at least one case."""
        scores = np.sort(self.case_means[~np.isnan(self.case_means)])
        return float(scores[: math.ceil(len(scores) / 10)].mean()) if scores.size else math.nan

    @property
    def low_cases(self) -> int:
        """Number of cases with a Dice below ``LOW_DICE``."""
        return int((self.case_means < LOW_DICE).sum())


@dataclass(frozen=True)
class Difference:
    """Mean paired difference of two cells, with its 95% interval over cases, as in ``medseg compare``.

    Attributes:
        mean: mean difference of the Dice.
        low, high: interval.
        cases: number of cases of both cells.
        seeds: number of seeds of both cells.
    """

    mean: float
    low: float
    high: float
    cases: int
    seeds: int


def paired_difference(cell: CellScores, baseline: CellScores, seed: int = 0) -> Difference:
    """Compare the same cases and seeds of two cells.

    Where only one of two scores is undefined, because that prediction correctly contains nothing, it counts as
    1. Differences are averaged over seeds; then the mean is that of the labels' means over cases. The interval
    covers the choice of cases, which are resampled with all their labels, and not that of seeds.

    Args:
        cell: the cell that is compared.
        baseline: the cell it is compared with.
        seed: seed of the bootstrap.
    """
    seeds = [one for one in cell.seeds if one in baseline.seeds]
    cases = [case for case in cell.cases if case in baseline.cases]
    labels = [label for label in cell.labels if label in baseline.labels]
    ours, theirs = (_select(scores, seeds, cases, labels) for scores in (cell, baseline))
    both = np.isnan(ours) & np.isnan(theirs)
    differences = np.where(both, math.nan, np.nan_to_num(ours, nan=1.0) - np.nan_to_num(theirs, nan=1.0))
    of_cases = mean_defined(differences, axis=0)  # (C, L)
    values = label_mean_influence(of_cases)
    low, high = mean_interval(values, seed=seed)
    mean = float(values.mean()) if values.size else math.nan
    return Difference(mean, float(low), float(high), len(cases), len(seeds))


def _select(
    scores: CellScores, seeds: Sequence[int], cases: Sequence[str], labels: Sequence[str]
) -> FloatArray:
    rows = [scores.seeds.index(one) for one in seeds]
    columns = [scores.cases.index(one) for one in cases]
    layers = [scores.labels.index(one) for one in labels]
    return scores.dice[np.ix_(rows, columns, layers)]
