"""Structures that a method missed entirely, and the sizes of structures in rows of scores."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medseg.errors import DataError
from medseg.evaluation.comparison.sources import SCORED, MethodScores


@dataclass(frozen=True)
class Misses:
    """Structures of the references in which a method predicted nothing of the label.

    Attributes:
        structures: number of structures in the references of the cases with a result.
        missed: case and label of those that were missed.
    """

    structures: int
    missed: tuple[tuple[str, str], ...]


def count_misses(
    rows: Mapping[tuple[str, str], Mapping[str, Any]], cases: Sequence[str], labels: Sequence[str]
) -> Misses | None:
    """Return the structures that a method missed in the cases with a result; None without sizes of labels."""
    structures, missed, known = 0, list[tuple[str, str]](), False
    for key in ((case, label) for case in cases for label in labels):
        row = rows.get(key)
        sizes = structure_sizes(row) if row is not None and row.get("status", SCORED) == SCORED else None
        if sizes is None or any(map(math.isnan, sizes)):
            continue
        known = True
        structures += sizes[0] > 0
        if sizes[0] > 0 and not sizes[1]:
            missed.append(key)
    return Misses(structures, tuple(missed)) if known else None


def structure_sizes(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the sizes of the label in the reference and in the prediction, if the row has them.

    In tables of objects or segments, these are their numbers.
    """
    if all(name in row for name in ("tp", "fp", "fn")):
        return row["tp"] + row["fn"], row["tp"] + row["fp"]
    if all(name in row for name in ("reference", "found", "missed", "false")):
        return row["reference"], row["found"] + row["false"]
    reference = next((row[key] for key in row if re.match(r"reference(_|$)", key)), None)
    prediction = next((row[key] for key in row if re.match(r"predicted(_|$)", key)), None)
    return None if reference is None or prediction is None else (reference, prediction)


def check_same_references(methods: Sequence[MethodScores]) -> None:
    """Check that the tables were made with the same references, as far as they have sizes.

    Raises:
        DataError: if the same label of a case has different sizes in the references of two methods.
    """
    seen: dict[tuple[str, str], tuple[float, str]] = {}
    differing: list[str] = []
    for method in methods:
        for row in method.rows:
            sizes = structure_sizes(row) if row.get("status", SCORED) == SCORED else None
            if sizes is None or math.isnan(sizes[0]):
                continue
            key = (str(row["case"]), str(row["name"]))
            size, first = seen.setdefault(key, (sizes[0], method.name))
            if not math.isclose(size, sizes[0], rel_tol=1e-6):
                differing.append(f"{' / '.join(key)}: {size:g} for {first}, {sizes[0]:g} for {method.name}")
    if differing:
        shown = "; ".join(differing[:3]) + (" …" if len(differing) > 3 else "")
        raise DataError(
            f"the tables were made with different references: {len(differing)} of their sizes or numbers of "
            f"objects differ ({shown})",
            hint="Evaluate the predictions of all methods with the same references, on the same grids.",
        )
