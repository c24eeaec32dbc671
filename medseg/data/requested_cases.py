"""``requested.json`` in a folder of predictions: all cases that were requested, whether they failed or not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from medseg.errors import DataError
from medseg.files import write_json

REQUESTED_FILE = "requested.json"


def write_requested(folder: Path, cases: Iterable[str]) -> None:
    """Add case ids to the record of a folder; existing ids are kept.

    Raises:
        DataError: the existing record is damaged.
    """
    recorded = read_requested(folder)
    merged = sorted({*(recorded or ()), *cases})
    if merged and merged != recorded:
        write_json(folder / REQUESTED_FILE, {"cases": merged})


def read_requested(folder: Path) -> list[str] | None:
    """Read the case ids recorded in a folder; None if there is no record.

    Raises:
        DataError: the record is damaged.
    """
    path = folder / REQUESTED_FILE
    if not path.is_file():
        return None
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        cases = content["cases"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if not isinstance(cases, list) or not all(isinstance(case, str) for case in cast(list[Any], cases)):
        raise _damaged(path)
    return cast(list[str], cases)


def _damaged(path: Path) -> DataError:
    return DataError(
        f'{path}: damaged, expected {{"cases": [ids]}}',
        hint="Delete it; every reference without a prediction then counts as missing.",
        path=path,
    )
