"""Files of tables: CSV, JSON, and scores in long form."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from medseg.files import write_atomic, write_json
from medseg.metrics.tables.columns import IDENTITY, Row, metric_columns, size_unit, unit_of


def long_rows(rows: Sequence[Row], unit: str = "mm") -> list[dict[str, Any]]:
    """Return one row per case, label and metric (tidy data, Wickham 2014).

    Args:
        rows: one row per case and label, as of ``case_rows``.
        unit: unit of distances.

    Returns:
        Rows with the keys case, label, name, status (if the rows have it), metric, value, unit (``1`` for
        ratios).

    Example:
        >>> long_rows([{"case": "a", "label": "1", "name": "organ", "dice": 0.5}])
        [{'case': 'a', 'label': '1', 'name': 'organ', 'metric': 'dice', 'value': 0.5, 'unit': '1'}]
    """
    columns = metric_columns(rows, counts=True)
    units = {column: unit_of(column, unit, size_unit(columns)) for column in columns}
    return [
        {key: row[key] for key in IDENTITY if key in row}
        | {"metric": column, "value": row[column], "unit": units[column]}
        for row in rows
        for column in units
        if column in row
    ]


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
