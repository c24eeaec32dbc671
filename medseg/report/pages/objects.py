"""The report of a comparison of numbered objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medseg.metrics.instances.summary import SCORE_TITLES
from medseg.report import plots
from medseg.report.environment import provenance
from medseg.report.folder_names import without_folders
from medseg.report.html import (
    Content,
    compact,
    enumerate_words,
    figure,
    grid,
    join,
    number,
    paragraph,
    plural,
    tag,
)
from medseg.report.page import Page
from medseg.report.pages.case_sections import CaseSections
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

OBJECTS_PAGE = "Evaluation of objects"
"""Kind of this page."""

_DISTRIBUTIONS = {
    "f1_50": "F1 at IoU 0.5", "f1_75": "F1 at IoU 0.75", "pooled_mean": "IoU 0.5:0.95", "pq": "PQ",
    "aji_plus": "AJI+",
}  # fmt: skip
_COLUMNS = {
    "f1_50": ("F1", "at IoU 0.5"),
    "f1_75": ("F1@0.75", "at IoU 0.75"),
    "f1_90": ("F1@0.9", "at IoU 0.9"),
    "pooled_50": ("@0.5", "TP/(TP+FP+FN) at IoU 0.5"),
    "pooled_mean": ("@0.5:0.95", "TP/(TP+FP+FN), mean over IoU 0.5 to 0.95"),
    "pq": ("PQ", "panoptic quality"),
    "sq": ("SQ", "mean IoU of the matched objects"),
    "rq": ("RQ", "recognition quality"),
    "aji_plus": ("AJI+", "aggregated Jaccard index, one to one"),
}
SHORT_TITLES = {
    "f1_50": "F1", "f1_75": "F1@0.75", "f1_90": "F1@0.9", "ap": "AP", "ap50": "AP50", "ap75": "AP75",
    "pq": "PQ", "sq": "SQ", "rq": "RQ", "aji_plus": "AJI+",
    "pooled_50": "@0.5", "pooled_mean": "@0.5:0.95",
    "per_image_50": "@0.5, per image", "per_image_mean": "@0.5:0.95, per image", "cpm": "CPM",
    "count_mae": "count error", "count_bias": "count bias", "split": "split", "merged": "merging",
}  # fmt: skip
"""Scores of the first table; ``SCORE_TITLES`` describes them."""
_OF_CLASS = ("f1_50", "pooled_50", "pooled_mean", "pq")
_COUNTS = {
    "split": "reference objects that several predicted ones share",
    "merged": "predicted ones on several",
}
_MOST_NAMED = 5


@dataclass(frozen=True)
class ObjectsPage:
    """Builds the report of a comparison of objects.

    Attributes:
        rows: rows of ``objects.csv``.
        summary: content of ``objects.json``.
        sections: pictures of cases.
    """

    rows: Sequence[Row]
    summary: Mapping[str, Any]
    sections: CaseSections

    def build(self) -> Page:
        """Return the page."""
        page = Page(page_title(self.summary["sources"]), OBJECTS_PAGE, self._verdict())
        page.add("Scores", self._score_table(), self._plots())
        page.add("Classes", self._class_table())
        page.add("Cases to look at", self._pictures())
        page.add("All cases", self._case_table())
        page.add("How this was measured", provenance(self.summary["definitions"]))
        self.sections.equip(page)
        return page

    def _verdict(self) -> Markup:
        reference, predicted, found = (sum(int(r[key]) for r in self.rows) for key in
                                       ("reference", "predicted", "found"))  # fmt: skip
        lead = Markup(
            "F1 is <b>{}</b> at IoU 0.5: {} of {} {} found, {} missed, and {} of {} predicted ones {} false."
        ).format(
            number(self.summary["scores"]["f1_50"]), number(found), plural(reference, "object"),
            "was" if found == 1 else "were", number(reference - found), number(predicted - found),
            number(predicted), "is" if predicted - found == 1 else "are",
        )  # fmt: skip
        cases = Markup("{} {} compared.").format(
            plural(len(self.rows), "case"), "was" if len(self.rows) == 1 else "were"
        )
        return join(
            [
                paragraph(lead, class_="lead"),
                paragraph(cases),
                *self._problems(),
                self._contacts(),
                self._lowest(),
            ]
        )

    def _contacts(self) -> Markup:
        """Say how many objects were split and merged, and what a perfect foreground would reach."""
        scores, ceiling = self.summary["scores"], self.summary["ceiling"]
        split, merged = int(scores["split"]), int(scores["merged"])
        text = Markup(
            "{} {} split, and {} {} several. Connected components of a perfect foreground would reach "
            "an F1 of {}."
        ).format(
            plural(split, "reference object"), "is" if split == 1 else "are", plural(merged, "predicted one"),
            "merges" if merged == 1 else "merge", number(ceiling["f1_50"]),
        )  # fmt: skip
        return paragraph(text)

    def _problems(self) -> list[Markup]:
        parts: list[Markup] = []
        missing: list[Content] = [self.sections.link(case) for case in self.summary["missing"]]
        parts += never_predicted(missing, self.summary, "case", "objects")
        parts += doubts(self.summary)
        failed: list[Content] = [
            f"{case} ({without_folders(reason)})" for case, reason in self.summary["failed"].items()
        ]
        if failed:
            text = Markup("{} could not be compared and {} left out: {}.").format(
                plural(len(failed), "case"),
                "is" if len(failed) == 1 else "are",
                enumerate_words(failed, most=_MOST_NAMED),
            )
            parts.append(paragraph(text, class_="alarm"))
        return parts

    def _lowest(self) -> Markup:
        first = worst_first(self.rows)[0]
        if first["f1_50"] is None or len(self.rows) < 2:
            return Markup("")
        text = Markup("Lowest F1 of a case: {} ({}).")
        return paragraph(text.format(number(first["f1_50"]), self.sections.link(str(first["case"]))))

    def _score_table(self) -> Markup:
        scores, ceiling = self.summary["scores"], self.summary["ceiling"]
        columns = [
            Column("score"),
            Column("predictions", "number"),
            Column("perfect foreground", "number", "connected components of all reference objects together"),
            Column("meaning"),
        ]
        rows: list[list[Content]] = []
        for key, short in SHORT_TITLES.items():
            if key in scores:
                meaning = SCORE_TITLES[key].replace("the same", "TP/(TP+FP+FN)")
                limit = compact(ceiling[key], 3) if key in ceiling else ""
                rows.append([short, compact(scores[key], 3), limit, meaning])
        return Table("Scores of all cases", columns, rows).html()

    def _plots(self) -> Markup:
        cases = [str(row["case"]) for row in self.rows]
        groups = [
            plots.Group(title, [as_float(row[key]) for row in self.rows], cases)
            for key, title in _DISTRIBUTIONS.items()
        ]
        drawn = plots.box_plot(groups, "score of a case", score=True)
        parts = [figure(drawn, box_caption())]
        if len(self.rows) > 2:
            reference, predicted = (
                [float(row[key]) for row in self.rows] for key in ("reference", "predicted")
            )
            drawn = plots.bland_altman(reference, predicted, cases, unit="objects", title="number of objects")
            parts.append(figure(drawn, "Numbers of objects: points above 0 have too many predicted ones."))
        return grid(*parts)

    def _class_table(self) -> Markup:
        classes = self.summary["classes"]
        if not classes:
            return Markup("")
        keys = [key for key in _OF_CLASS if key in next(iter(classes.values()))]
        columns = [Column("class"), Column("objects", "number", "in the reference")]
        columns += [Column(_COLUMNS[key][0], "number", _COLUMNS[key][1]) for key in keys]
        has_ap = "ap50" in next(iter(classes.values()))
        columns += [Column("AP50", "number", "COCO AP at IoU 0.5")] if has_ap else []
        rows: list[list[Content]] = []
        for name, row in classes.items():
            cells: list[Content] = [name, number(int(row["reference"])), *(number(row[key]) for key in keys)]
            rows.append([*cells, number(row["ap50"])] if has_ap else cells)
        return Table("Scores by class", columns, rows).html()

    def _pictures(self) -> Markup:
        by_case = {str(row["case"]): row for row in self.rows}
        return self.sections.with_headings({case: _heading(by_case[case]) for case in self.sections.pictures})

    def _case_table(self) -> Markup:
        fence = lower_fence([as_float(row["f1_50"]) for row in self.rows])
        columns = [Column("case"), Column("finding", "choice")]
        columns += [Column(one, "number") for one in ("objects", "predicted", "found", "missed", "false")]
        columns += [Column(title, "number", help_) for title, help_ in _COLUMNS.values()]
        columns += [Column(title, "number", help_) for title, help_ in _COUNTS.items()]
        ordered = worst_first(self.rows)
        findings = [self._finding(row, fence) for row in ordered]
        rows: list[list[Content]] = []
        for row, finding in zip(ordered, findings, strict=True):
            reference, predicted, found = (int(row[key]) for key in ("reference", "predicted", "found"))
            counts = (reference, predicted, found, reference - found, predicted - found)
            cells: list[Content] = [self.sections.link(str(row["case"])), finding, *map(number, counts)]
            cells += [number(row[key]) for key in _COLUMNS]
            rows.append(cells + [number(int(row[key])) for key in _COUNTS])
        marks = [SHADES.get(finding, "") for finding in findings]
        hint = shading_hint("cases in which nothing was found", "F1")
        order = 2 + 5  # of F1
        table = Table("Scores of every case, worst first", columns, rows, (order, "ascending"), True, marks)
        return join([hint, table.html()])

    def _finding(self, row: Row, fence: float) -> str:
        if row["case"] in self.summary["missing"]:
            return "never predicted"
        if not row["reference"]:
            return "no objects" if not row["predicted"] else "none in reference"
        if not row["found"]:
            return "nothing found"
        return "outlier" if as_float(row["f1_50"]) < fence else "scored"


def worst_first(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of ``objects.csv`` by F1, then by the mean over IoU; cases without objects last."""

    def key(row: Row) -> tuple[bool, float, float]:
        f1 = as_float(row["f1_50"])
        return math.isnan(f1), f1 if not math.isnan(f1) else 0.0, as_float(row["pooled_mean"] or 0)

    return sorted(rows, key=key)


def write_objects_page(
    path: Path, rows: Sequence[Row], summary: Mapping[str, Any], sections: CaseSections | None = None
) -> None:
    """Write the report of a comparison of objects.

    Args:
        path: file to write.
        rows: rows of ``objects.csv``.
        summary: content of ``objects.json``.
        sections: pictures of cases; None for none.
    """
    ObjectsPage(rows, summary, sections or CaseSections()).build().write(path)


def _heading(row: Row) -> Markup:
    """Return the name of a case and its scores."""
    reference, predicted, found = (int(row[key]) for key in ("reference", "predicted", "found"))
    text = Markup("F1 {}, PQ {}, {} found, {} missed, {} false").format(
        number(row["f1_50"]),
        number(row["pq"]),
        number(found),
        number(reference - found),
        number(predicted - found),
    )
    return Markup("<b>{}</b> {}").format(row["case"], tag("span", text, class_="hint"))


def never_predicted(
    missing: Sequence[Content], summary: Mapping[str, Any], unit: str, parts: str
) -> list[Markup]:
    """Return a paragraph that names cases without a prediction, and says how they count."""
    if not missing:
        return []
    left_out = summary["missing_policy"] == "ignore"
    text = Markup("{} {} never predicted; {}: {}.").format(
        plural(len(missing), unit),
        "was" if len(missing) == 1 else "were",
        "left out of all scores" if left_out else f"all {parts} there count as missed",
        enumerate_words(missing, most=_MOST_NAMED),
    )
    return [paragraph(text, class_="alarm")]


def doubts(summary: Mapping[str, Any]) -> list[Markup]:
    """Return what makes the scores doubtful, and which predictions were left out, as paragraphs."""
    notes = (f"{note[0].upper()}{note[1:]}" for note in summary["notes"])
    parts = [paragraph(one if one.endswith("?") else f"{one}.", class_="note") for one in notes]
    extra: list[str] = summary["extra"]
    if extra:
        text = Markup("{} without a reference {} left out: {}.").format(
            plural(len(extra), "prediction"),
            "is" if len(extra) == 1 else "are",
            enumerate_words(extra, most=_MOST_NAMED),
        )
        parts.append(paragraph(text, class_="alarm"))
    return parts
