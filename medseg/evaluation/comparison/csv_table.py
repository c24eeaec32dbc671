"""Tables with one row per case, of any program."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from medseg.errors import DataError

_CASE_NAMES = ("case", "case_id", "id", "subject", "image")


def read_csv(path: Path) -> tuple[list[str], list[dict[str | None, Any]], str | None]:
    """Return the columns, the rows and the name of the column of cases; None if there is no such column.

    Raises:
        DataError: if the file is not a CSV table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table ({error})", path=path) from error
    return columns, rows, next((name for name in _CASE_NAMES if name in columns), None)
