"""``requested.json`` in a folder of predictions: the cases that it was to hold, whatever became of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from medseg.errors import DataError
from medseg.files import write_json

REQUESTED_FILE = "requested.json"


def write_requested(folder: Path, cases: Iterable[str]) -> None:
    """Add case ids to the record of a folder; those recorded before stay.

    Raises: DataError if the record that is there is damaged.
    """
    before = read_requested(folder)
    after = sorted({*(before or ()), *cases})
    if after and after != before:
        write_json(folder / REQUESTED_FILE, {"cases": after})


def read_requested(folder: Path) -> list[str] | None:
    """The case ids recorded in a folder, or None where there is no record.

    Raises: DataError if it is damaged.
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
        f'{path}: damaged, expected {{"cases": [names]}}. Delete it: then every reference without a prediction '
        "counts as missing."
    )
