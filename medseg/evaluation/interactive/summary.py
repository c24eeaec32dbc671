"""Statistics of interactive evaluations, with intervals over cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.interactive.options import HUMAN, InteractiveOptions
from medseg.metrics.tables.statistics import Range, describe_columns
from medseg.system.version import medseg_version

Row = Mapping[str, Any]

DEFINITIONS = {
    "dice": "Dice of the mask and the reference after so many interactions. Means are over cases; a case's "
    "value is the mean over its objects. A user who has nothing left to correct stops; the last Dice counts.",
    "interactions": "Interactions until the Dice was reached first. An object that does not reach it is a "
    "failure and counts with the most interactions that were allowed (censored).",
    "failures": "Objects that did not reach the Dice within the most interactions.",
    "seconds": "Median time of the model for one interaction, without the user; then the median over objects.",
    "intervals": "95% intervals of means over cases.",
    "errors": "A model that fails on an object has Dice 0 there and reaches no target.",
    "human": "Recorded scribbles: that on the object is the first interaction, that beside it the second.",
}


def summarize_interactions(
    rows: Sequence[Row], options: InteractiveOptions, methods: Sequence[str]
) -> dict[str, Any]:
    """Summarize rows of ``objects.csv``: for each method, user and group of cases, and for all groups.

    Returns:
        ``definitions``, ``methods``, ``users``, ``scores`` (a list of entries with ``method``, ``user``,
        ``group``, which is empty for all cases) and ``differences`` (of the first method to each other one, by
        user and group).
    """
    users = list(dict.fromkeys(row["user"] for row in rows))
    groups = ["", *sorted({row["group"] for row in rows} - {""})]
    scores = [
        {"method": method, "user": user, "group": group} | _scores(own, options)
        for user in users
        for method in methods
        for group in groups
        if (own := _select(rows, method, user, group))
    ]
    return {
        "definitions": DEFINITIONS | {"version": medseg_version(), "most_interactions": options.most},
        "methods": list(methods),
        "users": users,
        "scores": scores,
        "differences": [
            _difference(rows, options, (methods[0], other), (user, group))
            for user in users
            for other in methods[1:]
            for group in groups
            if _select(rows, other, user, group)
        ],
    }


def _select(rows: Sequence[Row], method: str, user: str, group: str) -> list[Row]:
    return [
        row
        for row in rows
        if row["method"] == method and row["user"] == user and (not group or row["group"] == group)
    ]


def _scores(rows: Sequence[Row], options: InteractiveOptions) -> dict[str, Any]:
    targets = [f"{target:.2f}" for target in options.targets]
    recorded = rows[0]["user"] == HUMAN
    most = max(row["interactions"] for row in rows) if recorded else options.most
    return {
        "cases": len({row["case"] for row in rows}),
        "objects": len(rows),
        "dice": {key: _describe(_case_means(rows, f"dice_{key}"), (0.0, 1.0)) for key in _dice_keys(options)},
        "interactions": {key: _interactions(rows, key, most) for key in targets},
        "seconds": {
            "median": _median(rows, "seconds"),
            "opening_median": _median(rows, "opening_seconds"),
        },
    }


def _dice_keys(options: InteractiveOptions) -> list[str]:
    return [*map(str, options.counts), "last"]


def _interactions(rows: Sequence[Row], target: str, most: int) -> dict[str, Any]:
    column = f"to_{target}"
    failed = sum(math.isinf(row[column]) for row in rows)
    censored = [dict(row) | {column: min(row[column], most)} for row in rows]
    counted = _describe(_case_means(censored, column), (1.0, float(most)))
    missed = [{"case": row["case"], "missed": math.isinf(row[column])} for row in rows]
    share = float(np.mean(_case_means(missed, "missed")))
    return {"mean": counted["mean"], "ci_low": counted["ci_low"], "ci_high": counted["ci_high"],
            "median": float(np.median([row[column] for row in censored])),
            "failures": failed, "failure_share": share}  # fmt: skip


def _case_means(rows: Sequence[Row], column: str) -> list[float]:
    """Return the mean over the objects of each case; nan where no object has a value."""
    by_case: dict[str, list[float]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(float(row[column]))
    kept = [[value for value in values if not math.isnan(value)] for values in by_case.values()]
    return [float(np.mean(values)) if values else math.nan for values in kept]


def _describe(values: Sequence[float] | NDArray[np.float64], limits: Range) -> dict[str, float | int]:
    """Return the statistics of one column, with an interval within limits."""
    return describe_columns(np.asarray(values, np.float64)[:, None], ranges=(limits,))[0]


def _median(rows: Sequence[Row], column: str) -> float:
    values = [row[column] for row in rows if not math.isnan(row[column])]
    return float(np.median(values)) if values else math.nan


def _difference(
    rows: Sequence[Row], options: InteractiveOptions, methods: tuple[str, str], part: tuple[str, str]
) -> dict[str, Any]:
    """Compare two methods for a user and a group: mean difference of the Dice over cases, paired."""
    user, group = part
    own, theirs = (_select(rows, method, user, group) for method in methods)
    differences = {
        key: _describe(
            np.subtract(_case_means(own, f"dice_{key}"), _case_means(theirs, f"dice_{key}")), (-1.0, 1.0)
        )
        for key in _dice_keys(options)
    }
    return {"user": user, "group": group, "method": methods[0], "baseline": methods[1], "dice": differences}
