"""The report of a cross-validation of networks that tell objects apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from medseg.metrics.instances.summary import SCORE_TITLES
from medseg.report.environment import provenance
from medseg.report.html import Content, compact, join, number, paragraph, plural, tag
from medseg.report.page import Page
from medseg.report.pages.cross_validation.parts import DIVISION, failed_folds, training_table
from medseg.report.pages.objects import SHORT_TITLES
from medseg.report.table import Column, Table

_COUNTS = ("cases", "objects", "predicted", "found")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class ObjectFoldsPage:
    """Builds the report.

    Attributes:
        title: name of the study.
        summary: content of ``summary.json``: ``folds``, ``decoding``, ``test``, ``notes``, ``failed``.
        trainings: as in :func:`~medseg.report.pages.cross_validation.parts.training_table`.
        evaluation: path of the evaluation's report, relative to the page.
    """

    title: str
    summary: Mapping[str, Any]
    trainings: Sequence[Row] = ()
    evaluation: str | None = None

    def build(self) -> Page:
        """Return the page."""
        page = Page(self.title, "Cross-validation of objects", self._verdict())
        page.add("Folds", self._table("Objects of the out-of-fold predictions", "fold", self.summary["folds"]))
        page.add("Test cases", self._table("Objects of the test cases", "model", self.summary["test"]))
        page.add("Decoding", self._decoding())
        page.add("Trainings", training_table(self.trainings))
        page.add("How this was measured", paragraph(self._method()), provenance({}))
        return page

    def _verdict(self) -> Markup:
        parts: list[Markup] = []
        own = next((row for row in self.summary["folds"] if row["fold"] == "all"), None)
        if own is not None:
            lead = Markup(
                "F1 is <b>{}</b> at IoU 0.5 over {}, each predicted by the model that did not train on it: "
                "{} of {} found."
            ).format(
                number(own["f1_50"]), plural(int(own["cases"]), "case"), number(int(own["found"])),
                plural(int(own["objects"]), "object"),
            )  # fmt: skip
            parts.append(paragraph(lead, class_="lead"))
        parts += [paragraph(note) for note in self.summary["notes"]]
        if self.evaluation is not None:
            parts.append(paragraph(tag("a", "Scores and pictures of the held-out cases", href=self.evaluation)))
        return join([*parts, failed_folds(self.summary["failed"])])

    def _table(self, title: str, first: str, table: Sequence[Row]) -> Markup:
        if not table:
            return Markup("")
        scores = [key for key in SHORT_TITLES if key in table[0]]
        columns = [Column(first), *(Column(name, "number") for name in _COUNTS)]
        columns += [Column(SHORT_TITLES[key], "number", SCORE_TITLES[key]) for key in scores]
        rows: list[list[Content]] = [
            [str(row[first]), *(number(row[key]) for key in _COUNTS), *(compact(row[key], 3) for key in scores)]
            for row in table
        ]
        return Table(title, columns, rows).html()

    def _decoding(self) -> Markup:
        decoding: Mapping[str, Any] | None = self.summary["decoding"]
        if not decoding:
            return Markup("")
        columns = [Column("inference.instances"), Column("value", "number")]
        rows: list[list[Content]] = [
            [
                name,
                ", ".join(f"{one:g}" for one in value) if isinstance(value, list | tuple) else compact(value),
            ]
            for name, value in decoding.items()
        ]
        return Table("Medians of the thresholds of all folds", columns, rows).html()

    def _method(self) -> str:
        return (
            f"{DIVISION} The training of each fold chooses its thresholds of decoding on its held-out cases. "
            "They are predicted with the medians of the thresholds of the other folds instead, so that no case "
            "is scored with thresholds that were chosen on it."
        )
