"""The rows of all cases, summarized and written: ``metrics/cases.csv`` and ``metrics/summary.json``."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from medseg.files import write_atomic, write_json
from medseg.metrics.overlap import Counts, dice, iou
from medseg.metrics.surface import TOLERANCE_SLACK_MM, Surface
from medseg.metrics.tables import statistics
from medseg.metrics.tables.case_rows import Tolerance, Unit
from medseg.metrics.tables.statistics import FloatArray

DISTANCES = ("hd", "hd95", "assd", "masd")
COUNTS = ("tp", "fp", "fn", "tn")
IDENTITY = ("case", "label", "name", "status")
"""What a row says of itself beside its scores; ``status`` only where an evaluation adds it."""

Row = Mapping[str, Any]
Diagonal = float | Mapping[str, float]


def summarize(
    rows: Sequence[Row],
    *,
    surface: Surface = "surfel",
    tolerance_mm: Tolerance = 1.0,
    seed: int = 0,
    diagonal_mm: Diagonal | None = None,
    dataset: Mapping[str, Any] | None = None,
    unit: Unit = "mm",
) -> dict[str, Any]:
    """Summarize the rows of ``case_rows`` per label and over all labels, with the definitions used.

    ``surface``, ``tolerance_mm`` and ``unit`` (of distances) are those the rows were made with. A missed
    structure never improves a mean: its distances are inf, counted in n_inf, and make ``mean`` inf
    (``mean_finite`` leaves them out). With ``diagonal_mm`` (the images' diagonal: one value, or one per
    case) distances also have ``mean_penalized``, where inf counts as the diagonal. ``dataset`` takes
    ``dataset_scores``' result.

    Keys: definitions, n_cases, labels (name → label, metrics: name → ``statistics.describe``, dataset:
    Dice and IoU of the summed counts), overall (mean_dice: of the labels' means over cases, with its
    bootstrap interval; miou_dataset: IoU of summed counts, averaged over the labels present;
    miou_per_case: mean over cases of each case's mean IoU), dataset. Values may be nan or inf:
    ``to_json`` or ``write_summary`` write them.
    Raises: ValueError if a case has two rows for one name, or ``diagonal_mm`` lacks a case.
    """
    by_name = _group(rows)
    cases = list(dict.fromkeys(str(row["case"]) for row in rows))
    summary: dict[str, Any] = {
        "definitions": definitions(surface, tolerance_mm, seed, unit),
        "n_cases": len(cases),
        "labels": {name: _label(group, seed, diagonal_mm) for name, group in by_name.items()},
        "overall": _overall(by_name, cases, seed),
    }
    return summary if dataset is None else summary | {"dataset": dict(dataset)}


def definitions(surface: Surface, tolerance_mm: Tolerance, seed: int, unit: Unit = "mm") -> dict[str, Any]:
    """What the numbers of a summary mean, in words and values that travel with them."""
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
    """``value`` (mappings, sequences, numbers, text) as strict JSON: "nan", "inf", "-inf" become text."""
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
    """Write rows of one set of keys to ``path`` atomically, nan and inf as nan and inf.

    Text stands in quotes and numbers do not, so that a case named 001 can be told from the number 1.

    Raises: ValueError if the rows' keys differ, or there are no rows.
    """
    if not rows:
        raise ValueError(f"{path}: there are no rows to write, expected at least one")
    header = list(rows[0])
    for number, row in enumerate(rows):
        if list(row) != header:
            raise ValueError(f"{path}: row {number} has keys {list(row)}, expected {header}")
    with write_atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, header, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(rows)


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summarize``'s result to ``path`` atomically, as strict JSON."""
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
    """The scores (C, L) of all cases and labels; nan where a case has no row."""
    place = {case: index for index, case in enumerate(cases)}
    matrix = np.full((len(cases), len(by_name)), math.nan)
    for column, rows in enumerate(by_name.values()):
        for row in rows:
            matrix[place[str(row["case"])], column] = row[metric]
    return matrix


def _column_means(matrix: FloatArray) -> FloatArray:
    """The mean of each column's defined values; nan for a column without any."""
    defined = ~np.isnan(matrix)
    counts = defined.sum(axis=0)
    means = np.full(counts.shape, math.nan)
    return np.divide(np.where(defined, matrix, 0.0).sum(axis=0), counts, out=means, where=counts > 0)


def _mean(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _total(rows: Sequence[Row]) -> Counts:
    return Counts(*(sum(int(row[key]) for row in rows) for key in COUNTS))
