"""Missed structures in statistics: which value they count with, and how many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from medseg.metrics.tables.columns import Row, diagonal_of, is_distance, is_missed, is_spurious, worst_value

MissPolicy = Literal["worst", "exclude"]
"""``worst``: a structure that only one of both masks contains has the image's diagonal as distance, and a
missed one has 0 in scores that are undefined without a prediction. ``exclude``: both are left out, and counted.
"""

MISS_RULES: dict[MissPolicy, str] = {
    "worst": "infinite distances count as the image's diagonal, undefined scores of missed structures as 0",
    "exclude": "infinite distances and undefined scores of missed structures are left out of all statistics",
}
"""What the policies do, for the definitions of a table."""

_STRATA = tuple(f"lesion_sensitivity_{sign}" for sign in "<>")
"""Begin of the columns of size strata, such as ``lesion_sensitivity_>100``."""


def counted_value(row: Row, column: str, policy: MissPolicy) -> float:
    """Return the value with which a row enters the statistics of a column; nan if it is left out.

    The sensitivity of a size stratum is left out where the reference has no lesion of that size, whatever was
    predicted. Infinite values stay infinite with the policy ``worst`` if the row has no diagonal, or the column
    is no distance, such as the relative volume difference of a structure that the reference does not contain.

    Example:
        >>> row = {"hd95": math.inf, "precision": math.nan, "tp": 0, "fp": 0, "fn": 8, "diagonal_mm": 90.0}
        >>> [counted_value(row, column, "worst") for column in ("hd95", "precision")]
        [90.0, 0.0]
        >>> [counted_value(row, column, "exclude") for column in ("hd95", "precision")]
        [nan, nan]
    """
    value = float(row.get(column, math.nan))
    if column.startswith(_STRATA):
        return value
    if math.isinf(value) and is_distance(column):
        return worst_value(column, diagonal_of(row)) if policy == "worst" else math.nan
    if math.isnan(value) and policy == "worst" and column in row:
        wrong = is_missed(row) or (is_spurious(row) and is_distance(column))  # nan as in other libraries
        return worst_value(column, diagonal_of(row)) if wrong else value
    return value


def count_structures(rows: Sequence[Row]) -> dict[str, int]:
    """Count the cases of one label by where it occurs: in the reference, in the prediction, in both or neither.

    Returns:
        Keys: in_reference, missed, spurious, absent.
    """
    missed, spurious = sum(map(is_missed, rows)), sum(map(is_spurious, rows))
    present = sum(row.get("tp", 0) + row.get("fn", 0) > 0 for row in rows)
    return {
        "in_reference": present,
        "missed": missed,
        "spurious": spurious,
        "absent": len(rows) - present - spurious,
    }
