"""Summary of the rows of all cases: statistics per label and over labels, with the definitions they follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.metrics.case.options import DEFAULT_MEASURES, MeasureOptions, Unit
from medseg.metrics.definitions import value_range
from medseg.metrics.overlap import Counts, dice, iou
from medseg.metrics.tables import statistics
from medseg.metrics.tables.columns import COUNTS, Row, metric_columns
from medseg.metrics.tables.definitions import definitions, metric_definitions
from medseg.metrics.tables.missed_structures import MissPolicy, count_structures, counted_value
from medseg.metrics.tables.statistics import FloatArray


def summarize(
    rows: Sequence[Row],
    options: MeasureOptions = DEFAULT_MEASURES,
    *,
    unit: Unit = "mm",
    seed: int = 0,
    misses: MissPolicy = "worst",
    dataset: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Summarize the rows of ``case_rows`` per label and over all labels.

    A missed structure never improves a mean. Its distances are inf and counted in n_inf; in the statistics they
    are the diagonal of the image, if the rows have a column ``diagonal_mm`` or ``diagonal_px``, otherwise inf.
    With ``misses="exclude"`` they are left out; its Dice of 0 is not.

    Args:
        rows: rows of all cases.
        options: options that the rows were computed with; they become part of the definitions.
        unit: unit of distances.
        seed: seed of the bootstrap.
        misses: how missed structures enter statistics in which their value is infinite or undefined.
        dataset: result of ``dataset_scores``.

    Returns:
        Keys: definitions; n_cases; labels (name → label, metrics: name → ``statistics.describe``, structures:
        see ``count_structures``, dataset: Dice and IoU of the summed counts); overall (mean_dice: mean of the
        labels' means over cases, with its bootstrap interval; miou_dataset: IoU of summed counts, averaged over
        the labels present; miou_per_case: mean over cases of the mean IoU of a case; structures: sums over
        labels); dataset. Values may be nan or inf, see ``to_json`` and ``write_summary``.

    Raises:
        ValueError: if a case has two rows with the same name.
    """
    by_name = _group(rows)
    cases = list(dict.fromkeys(str(row["case"]) for row in rows))
    summary: dict[str, Any] = {
        "definitions": definitions(options, seed, unit, misses)
        | {"metrics": metric_definitions(rows, options.like)},
        "n_cases": len(cases),
        "labels": {name: _label(group, seed, misses) for name, group in by_name.items()},
        "overall": _overall(by_name, cases, seed),
    }
    return summary if dataset is None else summary | {"dataset": dict(dataset)}


def _group(rows: Sequence[Row]) -> dict[str, list[Row]]:
    by_name: dict[str, list[Row]] = {}
    seen: set[tuple[str, str]] = set()
    for row in rows:
        key = (str(row["case"]), str(row["name"]))
        if key in seen:
            raise ValueError(f"case {key[0]} has two rows for label {key[1]!r}, expected one")
        seen.add(key)
        by_name.setdefault(key[1], []).append(row)
    return by_name


def _label(rows: Sequence[Row], seed: int, misses: MissPolicy) -> dict[str, Any]:
    names = metric_columns(rows)
    raw = np.array([[float(row.get(name, math.nan)) for name in names] for row in rows], np.float64)
    counted = np.array([[counted_value(row, name, misses) for name in names] for row in rows], np.float64)
    described = statistics.describe_columns(counted, seed, [value_range(name) for name in names])
    finite = _column_means(np.where(np.isfinite(raw), raw, math.nan)).tolist()
    infinite = np.isinf(raw)
    undefined = (np.isnan(counted) & ~infinite).sum(axis=0).tolist()
    n_inf = infinite.sum(axis=0).tolist()
    counts = _total(rows)
    return {
        "label": rows[0]["label"],
        "metrics": {
            name: described[index]
            | {"mean_finite": finite[index], "n_nan": undefined[index], "n_inf": n_inf[index]}
            for index, name in enumerate(names)
        },
        "structures": count_structures(rows),
        "dataset": {"dice": dice(counts), "iou": iou(counts)},
    }


def _overall(by_name: Mapping[str, Sequence[Row]], cases: Sequence[str], seed: int) -> dict[str, Any]:
    dices, ious = (_matrix(metric, by_name, cases) for metric in ("dice", "iou"))
    label_means = _column_means(dices)
    low, high = statistics.interval_of_label_means(dices, seed, value_range("dice"))
    totals = [iou(_total(rows)) for rows in by_name.values()]
    structures = [count_structures(rows) for rows in by_name.values()]
    return {
        "mean_dice": {
            "mean": _mean(label_means),
            "ci_low": low,
            "ci_high": high,
            "n": int(np.count_nonzero(~np.isnan(dices).all(axis=1))) if dices.size else 0,
            "n_labels": int(np.count_nonzero(~np.isnan(label_means))),
        },
        "miou_dataset": _mean(np.array(totals, np.float64)),
        "miou_per_case": _mean(_column_means(ious.T)),
        "structures": {key: sum(one[key] for one in structures) for key in count_structures([])},
    }


def _matrix(metric: str, by_name: Mapping[str, Sequence[Row]], cases: Sequence[str]) -> FloatArray:
    """Return the scores (C, L) of all cases and labels; nan if a case has no row."""
    positions = {case: index for index, case in enumerate(cases)}
    matrix = np.full((len(cases), len(by_name)), math.nan)
    for column, rows in enumerate(by_name.values()):
        for row in rows:
            matrix[positions[str(row["case"])], column] = row[metric]
    return matrix


def _column_means(matrix: FloatArray) -> FloatArray:
    """Return the mean of the defined values of each column; nan if there are none."""
    return statistics.mean_defined(matrix, axis=0)


def _mean(values: FloatArray) -> float:
    return float(statistics.mean_defined(values, axis=0))


def _total(rows: Sequence[Row]) -> Counts:
    return Counts(*(sum(int(row[key]) for row in rows) for key in COUNTS))
