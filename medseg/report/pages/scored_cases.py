"""The rows of an evaluation as a report shows them: with what is remarkable about each, worst first.

Also the texts that the pages of evaluations share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from medseg.metrics.tables.columns import is_missed
from medseg.report.html import paragraph

Row = Mapping[str, Any]

Finding = Literal[
    "never predicted", "failed", "missed", "not in reference", "outlier", "absent in both", "scored"
]
SHADES: Mapping[str, str] = {"never predicted": "poor", "nothing found": "poor", "outlier": "some"}
"""Finding of a case with objects → shade of its row."""
SEVERE = ("never predicted", "failed", "missed", "not in reference")

_FEWEST = 8
"""Fewest scores of a label among which outliers are looked for."""


@dataclass(frozen=True)
class ScoredCase:
    """The scores of a label in a case.

    Attributes:
        row: row of ``cases.csv``.
        finding: ``missed``: the reference contains the label, the prediction does not; ``not in reference``:
            the opposite; ``outlier``: the Dice is below the lower quartile by more than 1.5 times the distance
            of the quartiles (Tukey 1977); ``never predicted`` and ``failed``: the status of the case.
    """

    row: Row
    finding: Finding

    @property
    def case(self) -> str:
        """Id of the case."""
        return str(self.row["case"])

    @property
    def name(self) -> str:
        """Name of the label."""
        return str(self.row["name"])

    @property
    def dice(self) -> float:
        """Dice; nan if it is not defined."""
        return as_float(self.row.get("dice"))


@dataclass(frozen=True)
class ScoredCases:
    """All rows of an evaluation.

    Attributes:
        rows: rows of ``cases.csv``.
    """

    rows: Sequence[Row]

    @cached_property
    def scored(self) -> list[ScoredCase]:
        """The rows with their findings, in the order of the table."""
        fences = {
            name: lower_fence([as_float(r.get("dice")) for r in rows]) for name, rows in self._by_name.items()
        }
        return [ScoredCase(row, _finding(row, self.sizes, fences[str(row["name"])])) for row in self.rows]

    @property
    def worst_first(self) -> list[ScoredCase]:
        """The rows by Dice, lowest first; those without a Dice last."""
        return sorted(self.scored, key=lambda one: (math.isnan(one.dice), one.dice, one.case))

    @property
    def names(self) -> list[str]:
        """Names of the labels."""
        return list(self._by_name)

    @property
    def cases(self) -> list[str]:
        """Ids of the cases."""
        return list(dict.fromkeys(str(row["case"]) for row in self.rows))

    def of(self, name: str) -> list[ScoredCase]:
        """Return the rows of a label."""
        return [one for one in self.scored if one.name == name]

    def found(self, finding: Finding) -> list[ScoredCase]:
        """Return the rows with a finding."""
        return [one for one in self.scored if one.finding == finding]

    @property
    def missed(self) -> list[ScoredCase]:
        """The structures that count as missed, also those of cases that count without a prediction."""
        return [
            one
            for one in self.scored
            if one.finding == "missed"
            or (one.finding in ("never predicted", "failed") and _is_counted_missed(one.row))
        ]

    @property
    def structures(self) -> int:
        """Number of structures in the references of the cases that count."""
        if self.sizes is None:
            return 0
        return sum(
            as_float(one.row.get(self.sizes[0])) > 0
            for one in self.scored
            if one.finding not in ("never predicted", "failed") or _is_counted_missed(one.row)
        )

    def worst_cases(self, most: int) -> list[str]:
        """Return the ids of the cases with the lowest mean Dice; labels without a Dice do not count."""
        scores: dict[str, list[float]] = {}
        for one in self.scored:
            if not math.isnan(one.dice):
                scores.setdefault(one.case, []).append(one.dice)
        return sorted(scores, key=lambda case: sum(scores[case]) / len(scores[case]))[:most]

    @cached_property
    def sizes(self) -> tuple[str, str] | None:
        """Columns of the sizes in reference and prediction, such as ``reference_volume_mm3``."""
        keys = list(self.rows[0]) if self.rows else []
        reference = next((key for key in keys if key.startswith(("reference_volume", "reference_area"))), None)
        predicted = next((key for key in keys if key.startswith(("predicted_volume", "predicted_area"))), None)
        return (reference, predicted) if reference and predicted else None

    def column(self, metric: str) -> str | None:
        """Return the name of a column: that of the metric, which may have the unit as ending."""
        keys = list(self.rows[0]) if self.rows else []
        return next((key for key in keys if key in (metric, f"{metric}_mm", f"{metric}_px")), None)

    @cached_property
    def _by_name(self) -> dict[str, list[Row]]:
        by_name: dict[str, list[Row]] = {}
        for row in self.rows:
            by_name.setdefault(str(row["name"]), []).append(row)
        return by_name


def _is_counted_missed(row: Row) -> bool:
    """Return whether a label of a case without a usable prediction counts with the worst scores."""
    return is_missed({key: as_float(row.get(key)) for key in ("tp", "fp", "fn")})


def page_title(sources: Mapping[str, Any]) -> str:
    """Return the title of the page of an evaluation, which names what was compared with what."""
    return f"{sources['predictions']} compared with {sources['references']}"


def box_caption(unit: str = "case") -> str:
    """Return the caption of a box plot whose points are cases."""
    return f"Every point is a {unit}; the box spans the quartiles, the thick line is the median."


def shading_hint(poor: str, score: str) -> Markup:
    """Return the paragraph above a table of cases that says which rows are shaded.

    Args:
        poor: the findings of the worst rows.
        score: the score by which :func:`lower_fence` finds outliers.
    """
    outliers = f"{score} below the lower quartile by more than 1.5 times the distance of the quartiles"
    text = f"Shaded rows: {poor}, and outliers ({outliers}). Click a heading to sort."
    return paragraph(text, class_="note")


def as_float(value: Any) -> float:
    """Return a number or its text as float; nan for None and empty text."""
    return math.nan if value is None or value == "" else float(value)


def _finding(row: Row, sizes: tuple[str, str] | None, fence: float) -> Finding:
    status = str(row.get("status", "scored"))
    if status in ("missing", "failed"):
        return "never predicted" if status == "missing" else "failed"
    if sizes is not None:
        reference, predicted = (as_float(row.get(key)) for key in sizes)
        if reference > 0 and predicted == 0:
            return "missed"
        if reference == 0 and predicted > 0:
            return "not in reference"
    dice = as_float(row.get("dice"))
    if math.isnan(dice):
        return "absent in both"
    return "outlier" if dice < fence else "scored"


def lower_fence(scores: Sequence[float]) -> float:
    """Return the score below which a case is an outlier (Tukey 1977); -inf with few cases.

    Args:
        scores: of the cases; nan is left out.
    """
    defined = [one for one in scores if not math.isnan(one)]
    if len(defined) < _FEWEST:
        return -math.inf
    q1, q3 = np.percentile(defined, (25, 75))
    return float(q1 - 1.5 * (q3 - q1))
