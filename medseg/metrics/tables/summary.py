"""Summary of the rows of all cases, and the files ``cases.csv`` and ``summary.json``."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from medseg.files import write_atomic, write_json
from medseg.metrics.overlap import Counts, dice, iou
from medseg.metrics.surface import TOLERANCE_SLACK_MM
from medseg.metrics.tables import statistics
from medseg.metrics.tables.case_rows import DEFAULT_SCORES, ScoreOptions, Unit
from medseg.metrics.tables.statistics import FloatArray

DISTANCES = ("hd", "hd95", "assd", "masd")
COUNTS = ("tp", "fp", "fn", "tn")
IDENTITY = ("case", "label", "name", "status")
"""Columns of a row that are not scores; ``status`` is added by an evaluation."""

Row = Mapping[str, Any]
Diagonal = float | Mapping[str, float]


def summarize(
    rows: Sequence[Row],
    options: ScoreOptions = DEFAULT_SCORES,
    *,
    unit: Unit = "mm",
    seed: int = 0,
    diagonal_mm: Diagonal | None = None,
    dataset: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Summarize the rows of ``case_rows`` per label and over all labels.

    A missed structure never improves a mean: its distances are inf, are counted in n_inf, and make ``mean``
    inf; ``mean_finite`` leaves them out.

    Args:
        rows: rows of all cases.
        options: options that the rows were computed with; they become part of the definitions.
        unit: unit of distances.
        seed: seed of the bootstrap.
        diagonal_mm: diagonal of the images, one value or one per case. If given, distances also have
            ``mean_penalized``, in which inf counts as the diagonal.
        dataset: result of ``dataset_scores``.

    Returns:
        Keys: definitions; n_cases; labels (name → label, metrics: name → ``statistics.describe``, dataset: Dice
        and IoU of the summed counts); overall (mean_dice: mean of the labels' means over cases, with its
        bootstrap interval; miou_dataset: IoU of summed counts, averaged over the labels present; miou_per_case:
        mean over cases of the mean IoU of a case); dataset. Values may be nan or inf, see ``to_json`` and
        ``write_summary``.

    Raises:
        ValueError: if a case has two rows with the same name, or ``diagonal_mm`` lacks a case.
    """
    by_name = _group(rows)
    cases = list(dict.fromkeys(str(row["case"]) for row in rows))
    summary: dict[str, Any] = {
        "definitions": definitions(options, seed, unit),
        "n_cases": len(cases),
        "labels": {name: _label(group, seed, diagonal_mm) for name, group in by_name.items()},
        "overall": _overall(by_name, cases, seed),
    }
    return summary if dataset is None else summary | {"dataset": dict(dataset)}


def definitions(options: ScoreOptions, seed: int, unit: Unit = "mm") -> dict[str, Any]:
    """Return the definitions of the scores, which are stored with a summary."""
    surface, tolerance_mm = options.surface, options.tolerance_mm
    tolerance = dict(tolerance_mm) if isinstance(tolerance_mm, Mapping) else float(tolerance_mm)
    sizes = "volumes in mm³ (areas in mm² where the array is 2D)" if unit == "mm" else "areas in pixels"
    weighted = "smallest distance whose cumulated surfel weight reaches 95 %"
    linear = "linear interpolation between order statistics"
    return {
        "surface": surface,
        "unit": unit,
        f"tolerance_{unit}": tolerance,
        f"tolerance_slack_{unit}": TOLERANCE_SLACK_MM,
        "spacing_units": f"{unit}, in array axis order; {sizes}",
        "outside_the_array": "background",
        "hd95": f"larger of the two directed 95th percentiles: {weighted if surface == 'surfel' else linear}",
        "assd": "sum of weight · distance over both surfaces / sum of weights",
        "masd": "mean of the two directed mean distances",
        "nsd": "weighted fraction of both surfaces within the tolerance plus the slack",
        "empty": "both empty: nan, left out and counted; one empty: distances inf, dice, iou and nsd 0",
        "mean": "inf if any value is inf; mean_finite and sd (n - 1) are of the finite values",
        "quantiles": linear,
        "bootstrap": {
            "interval": f"percentile, {statistics.CONFIDENCE:.0%}, of the mean, over cases",
            "resamples": statistics.RESAMPLES,
            "seed": seed,
        },
    }


def to_json(value: Any) -> Any:
    """Convert mappings, sequences, numbers and text to strict JSON values; nan and inf become text.

    Example:
        >>> to_json({"hd95": float("inf"), "n": (1, 2)})
        {'hd95': 'inf', 'n': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in cast(Sequence[Any], value)]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with the same keys to a CSV file atomically; nan and inf are written as such.

    Text is quoted and numbers are not, which distinguishes a case named 001 from the number 1.

    Raises:
        ValueError: if the keys differ, or there are no rows.
    """
    if not rows:
        raise ValueError(f"{path}: no rows to write, expected at least one")
    header = list(rows[0])
    for number, row in enumerate(rows):
        if list(row) != header:
            raise ValueError(f"{path}: row {number} has keys {list(row)}, expected {header}")
    with write_atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, header, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(rows)


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the result of ``summarize`` to a file atomically, as strict JSON."""
    write_json(path, to_json(summary))


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


def _label(rows: Sequence[Row], seed: int, diagonal_mm: Diagonal | None) -> dict[str, Any]:
    names = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in IDENTITY + COUNTS]
    metrics: dict[str, dict[str, Any]] = {
        name: dict(statistics.describe([row.get(name, math.nan) for row in rows], seed)) for name in names
    }
    if diagonal_mm is not None:
        for name in DISTANCES:
            metrics[name]["mean_penalized"] = _penalized_mean(name, rows, diagonal_mm)
    counts = _total(rows)
    return {
        "label": rows[0]["label"],
        "metrics": metrics,
        "dataset": {"dice": dice(counts), "iou": iou(counts)},
    }


def _penalized_mean(name: str, rows: Sequence[Row], diagonal_mm: Diagonal) -> float:
    values: list[float] = []
    for row in rows:
        if math.isnan(row[name]):
            continue
        values.append(_diagonal_of(row["case"], diagonal_mm) if math.isinf(row[name]) else row[name])
    return float(np.mean(values)) if values else math.nan


def _diagonal_of(case: str, diagonal_mm: Diagonal) -> float:
    if not isinstance(diagonal_mm, Mapping):
        return diagonal_mm
    if case not in diagonal_mm:
        raise ValueError(f"diagonal_mm has no value for case {case}, expected one per case")
    return diagonal_mm[case]


def _overall(by_name: Mapping[str, Sequence[Row]], cases: Sequence[str], seed: int) -> dict[str, Any]:
    dices, ious = (_matrix(metric, by_name, cases) for metric in ("dice", "iou"))
    label_means = _column_means(dices)
    resampled = _column_means(statistics.bootstrap_means(dices, seed).T)
    low, high = statistics.interval(resampled)
    totals = [iou(_total(rows)) for rows in by_name.values()]
    return {
        "mean_dice": {
            "mean": _mean(label_means),
            "ci_low": low,
            "ci_high": high,
            "n_labels": int(np.count_nonzero(~np.isnan(label_means))),
        },
        "miou_dataset": _mean(np.array(totals, np.float64)),
        "miou_per_case": _mean(_column_means(ious.T)),
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
    defined = ~np.isnan(matrix)
    counts = defined.sum(axis=0)
    means = np.full(counts.shape, math.nan)
    return np.divide(np.where(defined, matrix, 0.0).sum(axis=0), counts, out=means, where=counts > 0)


def _mean(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _total(rows: Sequence[Row]) -> Counts:
    return Counts(*(sum(int(row[key]) for row in rows) for key in COUNTS))
