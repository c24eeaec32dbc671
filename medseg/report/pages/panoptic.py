"""The report of a comparison of panoptic segmentations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medseg.report import plots
from medseg.report.environment import provenance
from medseg.report.html import Content, figure, join, number, paragraph, plural
from medseg.report.page import Page
from medseg.report.pages.objects import doubts, never_predicted
from medseg.report.pages.scored_cases import (
    SHADES,
    Row,
    as_float,
    box_caption,
    lower_fence,
    page_title,
    shading_hint,
)
from medseg.report.table import Column, Table

PANOPTIC_PAGE = "Panoptic evaluation"
"""Kind of this page."""

_SCORES = {
    "pq": ("PQ", "panoptic quality, SQ · RQ"),
    "sq": ("SQ", "mean IoU of the matched segments"),
    "rq": ("RQ", "F1 of the segments at IoU 0.5"),
}
_OF_CASE = {
    **_SCORES,
    "pq_things": ("PQ of things", "mean over the things of the picture"),
    "pq_stuff": ("PQ of stuff", "mean over the stuff of the picture"),
}
_COUNTS = {
    "reference": ("segments", "in the reference, without crowds"),
    "found": ("found", "matched at an IoU above 0.5"),
    "missed": ("missed", "segments of the reference without a match"),
    "false": ("false", "predicted segments without a match"),
}
_MOST_NAMED = 5


@dataclass(frozen=True)
class PanopticPage:
    """Builds the report of a comparison of panoptic segmentations.

    Attributes:
        rows: rows of ``panoptic_cases.csv``.
        summary: content of ``panoptic_scores.json``.
    """

    rows: Sequence[Row]
    summary: Mapping[str, Any]

    def build(self) -> Page:
        """Return the page."""
        page = Page(page_title(self.summary["sources"]), PANOPTIC_PAGE, self._verdict())
        page.add("Scores", self._score_table(), self._plot())
        page.add("Classes", self._class_table())
        page.add("All pictures", self._case_table())
        page.add("How this was measured", provenance(self.summary["definitions"]))
        return page

    def _verdict(self) -> Markup:
        scores, counts = self.summary["scores"], list(self.summary["classes"].values())
        reference, found, false = (sum(int(row[key]) for row in counts) for key in
                                   ("reference", "found", "false"))  # fmt: skip
        lead = Markup(
            "PQ is <b>{}</b> (things {}, stuff {}): {} of {} found, {} missed, and {} {} false."
        ).format(
            *(number(scores[name]["pq"]) for name in ("all", "things", "stuff")),
            number(found), plural(reference, "segment"), number(reference - found),
            plural(false, "predicted one"), "is" if false == 1 else "are",
        )  # fmt: skip
        compared = Markup("{} {} compared.").format(
            plural(len(self.rows), "picture"), "was" if len(self.rows) == 1 else "were"
        )
        parts = [paragraph(lead, class_="lead"), paragraph(compared), self._missing()]
        return join([*parts, self._lowest_class(), self._lowest_picture()])

    def _missing(self) -> Markup:
        missing = never_predicted(self.summary["missing"], self.summary, "picture", "segments")
        return join([*missing, *doubts(self.summary)])

    def _lowest_class(self) -> Markup:
        scored = {name: row["pq"] for name, row in self.summary["classes"].items() if row["pq"] is not None}
        if len(scored) < 2:
            return Markup("")
        name = min(scored, key=lambda one: scored[one])
        return paragraph(Markup("Lowest PQ of a class: {} ({}).").format(number(scored[name]), name))

    def _lowest_picture(self) -> Markup:
        first = _worst_first(self.rows)[0]
        if first["pq"] is None or len(self.rows) < 2:
            return Markup("")
        return paragraph(Markup("Lowest PQ of a picture: {} ({}).").format(number(first["pq"]), first["case"]))

    def _score_table(self) -> Markup:
        columns = [Column("classes"), *(Column(*_column(one)) for one in _SCORES.values())]
        rows: list[list[Content]] = [
            [name, *(number(row[key]) for key in _SCORES)] for name, row in self.summary["scores"].items()
        ]
        return Table(
            "Means over the classes; their segments are pooled over the pictures", columns, rows
        ).html()

    def _plot(self) -> Markup:
        cases = [str(row["case"]) for row in self.rows]
        groups = [
            plots.Group(_OF_CASE[key][0], [as_float(row[key]) for row in self.rows], cases) for key in _OF_CASE
        ]
        groups = [one for one in groups if not all(map(math.isnan, one.values))]
        if not groups:
            return Markup("")
        return figure(plots.box_plot(groups, "score of a picture", score=True), box_caption("picture"))

    def _class_table(self) -> Markup:
        columns = [Column("class"), Column("kind", "choice")]
        columns += [Column(*_column(one)) for one in (*_COUNTS.values(), *_SCORES.values())]
        rows: list[list[Content]] = []
        for name, row in self.summary["classes"].items():
            counts = (number(int(row[key])) for key in _COUNTS)
            rows.append([name, row["kind"], *counts, *(number(row[key]) for key in _SCORES)])
        return Table("Scores by class", columns, rows).html()

    def _case_table(self) -> Markup:
        columns = [Column("picture"), Column("finding", "choice")]
        columns += [Column(*_column(one)) for one in (*_COUNTS.values(), *_OF_CASE.values())]
        ordered = _worst_first(self.rows)
        fence = lower_fence([as_float(row["pq"]) for row in ordered])
        findings = [self._finding(row, fence) for row in ordered]
        rows: list[list[Content]] = []
        for row, finding in zip(ordered, findings, strict=True):
            counts = (number(int(row[key])) for key in _COUNTS)
            rows.append([str(row["case"]), finding, *counts, *(number(row[key]) for key in _OF_CASE)])
        hint = shading_hint("pictures in which nothing was found", "PQ")
        order = 2 + len(_COUNTS)  # of PQ
        shaded = [SHADES.get(one, "") for one in findings]
        title = "Scores of every picture, worst first"
        return join([hint, Table(title, columns, rows, (order, "ascending"), True, shaded).html()])

    def _finding(self, row: Row, fence: float) -> str:
        if row["case"] in self.summary["missing"]:
            return "never predicted"
        if not row["reference"]:
            return "no segments" if not row["false"] else "none in reference"
        if not row["found"]:
            return "nothing found"
        return "outlier" if as_float(row["pq"]) < fence else "scored"


def write_panoptic_page(path: Path, rows: Sequence[Row], summary: Mapping[str, Any]) -> None:
    """Write the report of a comparison of panoptic segmentations.

    Args:
        path: file to write.
        rows: rows of ``panoptic_cases.csv``.
        summary: content of ``panoptic_scores.json``.
    """
    PanopticPage(rows, summary).build().write(path)


def _column(titles: tuple[str, str]) -> tuple[str, Any, str]:
    return titles[0], "number", titles[1]


def _worst_first(rows: Sequence[Row]) -> list[Row]:
    """Return the rows by PQ; pictures without a score last."""
    return sorted(rows, key=lambda row: (row["pq"] is None, row["pq"] or 0.0, str(row["case"])))
