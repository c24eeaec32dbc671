"""``warnings.csv``: the warnings of all cases of an output folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.files import write_table

WARNINGS = "warnings.csv"
WARNING_COLUMNS = ["case", "finding", "value", "training", "advice"]


def write_warnings(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the warnings of the provenance records, atomically; remove the file if there are none.

    Args:
        path: ``warnings.csv``.
        records: contents of provenance records.
    """
    rows = [
        {"case": record["case"], **{name: warning.get(name, "") for name in WARNING_COLUMNS[1:]}}
        for record in records
        for warning in record.get("shift", {}).get("warnings", [])
    ]
    write_table(path, WARNING_COLUMNS, rows)
