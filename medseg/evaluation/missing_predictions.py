"""Cases without a prediction: why there is none, and the scores that they get."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import DataError
from medseg.evaluation.case_comparison import CaseComparer, CaseComparison

FAILURES_FILE = "failures.csv"


@dataclass(frozen=True)
class MissingCase:
    """A case with a reference and without a prediction.

    Attributes:
        reference: file of the reference.
        reason: why there is no prediction.
    """

    reference: Path
    reason: str


def read_failures(folder: Path) -> dict[str, str]:
    """Return the reasons of failed cases, by case, from ``failures.csv``."""
    path = folder / FAILURES_FILE
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return {row["case"]: row["error"] or "failed" for row in csv.DictReader(stream)}
    except (ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}: not a table of cases and errors ({error})", path=path) from error


def score_missing(case: str, reference: Path, comparer: CaseComparer) -> CaseComparison | None:
    """Return the worst scores, or None if ``missing`` does not ask for them.

    Raises:
        DataError: if the reference cannot be read.
    """
    return comparer.score_worst(case, reference) if comparer.options.missing == "worst" else None
