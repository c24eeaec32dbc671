"""The report of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medseg.metrics import metric_info
from medseg.metrics.tables.columns import is_distance, title_of
from medseg.report import plots
from medseg.report.environment import provenance
from medseg.report.html import (
    Content,
    bullets,
    compact,
    figure,
    folded,
    grid,
    interval,
    join,
    number,
)
from medseg.report.page import Page
from medseg.report.pages.case_sections import CaseSections
from medseg.report.pages.evaluation_verdict import write_verdict
from medseg.report.pages.scored_cases import (
    SEVERE,
    Row,
    ScoredCase,
    ScoredCases,
    as_float,
    box_caption,
    page_title,
    shading_hint,
)
from medseg.report.table import Column, Table

EVALUATION_PAGE = "Evaluation"
"""Kind of this page."""

_METRICS = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall", "nsd": "NSD"}
_DISTANCES = {"hd95": "HD95", "assd": "ASSD"}
_MOST_PLOTS = 6
"""Labels whose volumes are plotted without being asked for."""


@dataclass(frozen=True)
class EvaluationPage:
    """Builds the report of an evaluation.

    Attributes:
        cases: rows of ``cases.csv``.
        summary: content of ``summary.json``.
        sections: pictures of the worst cases.
    """

    cases: ScoredCases
    summary: Mapping[str, Any]
    sections: CaseSections

    def build(self) -> Page:
        """Return the page."""
        page = Page(self._title(), EVALUATION_PAGE, write_verdict(self.cases, self.summary, self.sections.link))
        page.add("Labels", self._labels_table(), self._score_plots())
        page.add("Worst cases", self.sections.html(self.cases))
        page.add("All cases", self._cases_table())
        page.add("All metrics", self._metrics_table())
        page.add("Volumes", self._volume_plots())
        page.add("Classes", self._confusion())
        page.add("Calibration", self._calibration())
        page.add("How this was measured", provenance(self.summary.get("definitions", {})))
        self.sections.equip(page)
        return page

    @property
    def unit(self) -> str:
        """Unit of distances."""
        return str(self.summary.get("definitions", {}).get("unit", "mm"))

    @property
    def _misses_count(self) -> bool:
        """Whether an infinite distance counts as the diagonal of the image in the means."""
        return self.summary.get("definitions", {}).get("misses") == "worst"

    @property
    def _distance_help(self) -> str:
        if self._misses_count:
            return "mean; an infinite distance counts as the diagonal of the image"
        return "mean of the finite distances"

    def _title(self) -> str:
        sources = self.summary.get("sources")
        if sources:
            return page_title(sources)
        return f"{len(self.cases.cases)} cases, {len(self.cases.names)} labels"

    def _labels_table(self) -> Markup:
        columns = [
            Column("label"),
            Column("n", "number", "cases with a defined Dice"),
            Column("Dice", "number", "mean over cases"),
            Column("95% interval", "number", "of the mean over cases"),
            Column("median", "number"),
            Column("sd", "number"),
            Column("IoU", "number"),
            Column(f"HD95 ({self.unit})", "number", self._distance_help),
            Column("infinite", "number", "cases whose distance is infinite: one mask is empty"),
            Column("NSD", "number", "normalized surface Dice"),
            Column("missed", "number", "cases in which nothing was predicted, or that count as missed"),
            Column("not in reference", "number", "predicted, but the reference does not contain the label"),
        ]
        rows = [self._label_row(name, entry) for name, entry in self.summary["labels"].items()]
        return Table("Scores by label, means over cases", columns, rows).html()

    def _label_row(self, name: str, entry: Mapping[str, Any]) -> list[Markup | str]:
        metrics, structures = entry["metrics"], entry["structures"]
        dice, distance = metrics["dice"], metrics.get(self.cases.column("hd95") or "hd95", {})
        return [
            name,
            number(dice["n"]),
            number(dice["mean"]),
            interval(dice.get("ci_low"), dice.get("ci_high")),
            number(dice.get("median")),
            number(dice.get("sd")),
            number(metrics.get("iou", {}).get("mean")),
            number(distance.get("mean" if self._misses_count else "mean_finite"), 2),
            number(distance.get("n_inf", 0)),
            number(metrics.get("nsd", {}).get("mean")),
            number(structures["missed"]),
            number(structures["spurious"]),
        ]

    def _metrics_table(self) -> Markup:
        """Return all metrics of all labels; first those beyond overlap and boundary, which were asked for."""
        columns = [
            Column("label", "choice"),
            Column("metric", "choice"),
            Column("n", "number", "cases with a defined value"),
            Column("mean", "number", f"of distances: {self._distance_help}"),
            Column("95% interval", "number", "of the mean over cases"),
            Column("median", "number"),
        ]
        entries = [
            (_is_extra(column), name, column, entry)
            for name, label in self.summary["labels"].items()
            for column, entry in label["metrics"].items()
        ]
        entries.sort(key=lambda entry: not entry[0])
        rows = [self._metric_row(name, column, entry) for _, name, column, entry in entries]
        return Table("All metrics by label, statistics over cases", columns, rows, controls=True).html()

    def _metric_row(self, name: str, column: str, entry: Mapping[str, Any]) -> list[Content]:
        mean = entry.get("mean" if self._misses_count or not is_distance(column) else "mean_finite")
        low, high, median = (entry.get(key) for key in ("ci_low", "ci_high", "median"))
        if column.startswith(("reference_", "predicted_")):
            shown, ends, middle = compact(mean), (compact(low), compact(high)), compact(median)
        else:
            digits = 2 if is_distance(column) else 3
            shown, middle = number(mean, digits), number(median, digits)
            ends = (number(low, digits), number(high, digits))
        between = join(ends, " to ") if math.isfinite(as_float(low)) else number(math.nan)
        return [name, title_of(column, self.unit), number(entry["n"]), shown, between, middle]

    def _score_plots(self) -> Markup:
        dice = plots.box_plot(self._groups("dice"), "Dice", score=True)
        parts = [figure(dice, box_caption())]
        distance = self.cases.column("hd95")
        if distance is not None:
            groups = self._groups(distance)
            drawn = plots.box_plot(groups, "HD95", unit=self.unit, digits=2)
            parts.append(figure(drawn, "95th percentile of the surface distances; ∞ where one mask is empty."))
        return grid(*parts)

    def _groups(self, column: str) -> list[plots.Group]:
        groups: list[plots.Group] = []
        for name in self.cases.names:
            own = self.cases.of(name)
            groups.append(plots.Group(name, [as_float(o.row.get(column)) for o in own], [o.case for o in own]))
        return groups

    def _cases_table(self) -> Markup:
        metrics = {key: title for key, title in _METRICS.items() if self.cases.column(key)}
        distances = {
            column: title for key, title in _DISTANCES.items() if (column := self.cases.column(key)) is not None
        }
        sizes = self.cases.sizes or ()
        columns = [Column("case"), Column("label", "choice"), Column("finding", "choice")]
        columns += [Column(title, "number") for title in metrics.values()]
        columns += [Column(f"{title} ({self.unit})", "number") for title in distances.values()]
        columns += [Column(_size_title(key), "number") for key in sizes]
        ordered = self.cases.worst_first
        rows = [
            [
                self.sections.link(one.case),
                one.name,
                one.finding,
                *(number(as_float(one.row.get(key))) for key in metrics),
                *(number(as_float(one.row.get(key)), 2) for key in distances),
                *(compact(as_float(one.row.get(key))) for key in sizes),
            ]
            for one in ordered
        ]
        marks = [_mark(one) for one in ordered]
        table = Table(
            "Scores of every case and label, worst first", columns, rows, (3, "ascending"), True, marks
        )
        return join([shading_hint("missed, failed or additional structures", "Dice"), table.html()])

    def _volume_plots(self) -> Markup:
        sizes = self.cases.sizes
        if sizes is None:
            return Markup("")
        drawn = [one for name in self.cases.names if (one := self._volumes(name, sizes)) is not None]
        shown, rest = drawn[:_MOST_PLOTS], drawn[_MOST_PLOTS:]
        more = folded(f"{len(rest)} more labels", grid(*rest)) if rest else ""
        return join([grid(*shown), more]) if shown else Markup("")

    def _volumes(self, name: str, sizes: tuple[str, str]) -> Markup | None:
        own = [
            (as_float(one.row.get(sizes[0])), as_float(one.row.get(sizes[1])), one.case)
            for one in self.cases.of(name)
            if one.finding not in ("never predicted", "failed", "absent in both")
        ]
        own = [row for row in own if math.isfinite(row[0]) and math.isfinite(row[1])]
        if len(own) < 3:
            return None
        unit, factor = _large_unit(sizes[0], max(row[0] for row in own))
        reference, predicted = [row[0] / factor for row in own], [row[1] / factor for row in own]
        drawn = plots.bland_altman(reference, predicted, [row[2] for row in own], unit=unit, title=name)
        agreement = plots.Agreement.of(reference, predicted)
        caption = Markup(
            "<b>{}</b>: predictions are {} {} {} on average; in 95% of the cases {} to {} {}."
        ).format(
            name,
            compact(abs(agreement.bias), 2),
            unit,
            "larger" if agreement.bias >= 0 else "smaller",
            compact(agreement.low, 2),
            compact(agreement.high, 2),
            unit,
        )
        return figure(drawn, caption)

    def _confusion(self) -> Markup:
        dataset = self.summary.get("dataset") or {}
        matrix, names = dataset.get("confusion"), dataset.get("classes")
        parts: list[Markup] = []
        if matrix and names:
            caption = "Where the pixels of each class of the reference went, in percent."
            parts.append(figure(plots.confusion_plot(matrix, names), caption))
        scores = [
            Markup("{}: {}").format(title, number(dataset[key]))
            for key, title in (
                ("pixel_accuracy", "pixel accuracy"),
                ("miou_with_background", "mean IoU of the summed counts, background included"),
                ("miou_without_background", "mean IoU of the summed counts, without background"),
                ("frequency_weighted_iou", "frequency-weighted IoU"),
            )
            if isinstance(dataset.get(key), float)
        ]
        return join([grid(*parts) if parts else "", bullets(scores) if scores else ""])

    def _calibration(self) -> Markup:
        calibration = self.summary.get("calibration") or {}
        bins = calibration.get("reliability")
        if not bins:
            return Markup("")
        drawn = plots.reliability_curve(
            *([row[key] for row in bins] for key in ("confidence", "accuracy", "n"))
        )
        caption = "Points above the diagonal: the model is less certain than it could be; below: too certain."
        scores = [
            Markup("{}: {}").format(key.upper() if len(key) == 3 else key, number(value, 4))
            for key, value in calibration.items()
            if isinstance(value, float)
        ]
        return join([grid(figure(drawn, caption)), bullets(scores)])


def _is_extra(column: str) -> bool:
    """Return whether a metric belongs to a group that was asked for, such as those of lesions."""
    with suppress(KeyError):
        return metric_info(column).group not in (None, "overlap", "boundary")
    return False


def write_evaluation_page(
    path: Path, rows: Sequence[Row], summary: Mapping[str, Any], sections: CaseSections | None = None
) -> None:
    """Write the report of an evaluation.

    Args:
        path: file to write.
        rows: rows of ``cases.csv``.
        summary: content of ``summary.json``.
        sections: pictures of the worst cases; None for none.
    """
    EvaluationPage(ScoredCases(rows), summary, sections or CaseSections()).build().write(path)


def _mark(one: ScoredCase) -> str:
    return "poor" if one.finding in SEVERE else "some" if one.finding == "outlier" else ""


def _size_title(column: str) -> str:
    kind, _, unit = column.rpartition("_")
    return f"{kind.replace('_', ' ')} ({_unit(unit)})"


def _unit(text: str) -> str:
    return text.replace("mm3", "mm³").replace("mm2", "mm²")


def _large_unit(column: str, largest: float) -> tuple[str, float]:
    """Return the unit of a size and its factor: ml for large volumes."""
    unit = _unit(column.rpartition("_")[2])
    return ("ml", 1000.0) if unit == "mm³" and largest >= 10_000 else (unit, 1.0)
