"""The page of a dataset: distributions, findings, unusual cases, and what differs from another dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.curation.check import DatasetReport
from medseg.data.curation.summary import summary_labels
from medseg.errors import Finding
from medseg.report import plots
from medseg.report.environment import describe_environment
from medseg.report.folder_names import without_folders
from medseg.report.html import (
    Content,
    anchor,
    bullets,
    compact,
    enumerate_words,
    figure,
    folded,
    grid,
    join,
    number,
    pairs,
    paragraph,
    picture,
    plural,
    tag,
)
from medseg.report.page import Page
from medseg.report.pages.comparison.verdict import p_value, percent
from medseg.report.pages.dataset_measures import (
    CaseMeasures,
    Measure,
    MeasureDifference,
    compare_measures,
    measure_cases,
)
from medseg.report.table import Column, Table
from medseg.report.thumbnails import draw_thumbnail

_STATUSES = {"problem": "Problems, which prevent training", "warning": "Warnings", "note": "Notes"}
_GROUPS = {"grid": "Grids", "intensity": "Intensities", "label": "Labels"}
_MOST_PLOTS = 12
_MOST_NAMED = 5


@dataclass(frozen=True)
class Dataset:
    """A checked dataset.

    Attributes:
        name: of the dataset.
        report: result of ``check_dataset``.
        summary: result of ``summarize_dataset``.
    """

    name: str
    report: DatasetReport
    summary: Mapping[str, Any]

    @cached_property
    def measures(self) -> CaseMeasures:
        """Measurements of the cases."""
        return measure_cases(self.report.statistics, summary_labels(self.report))


@dataclass(frozen=True)
class DatasetPage:
    """Builds the page of a dataset.

    Attributes:
        dataset: the dataset.
        other: a dataset that it is compared with.
        most: number of cases with a picture.
    """

    dataset: Dataset
    other: Dataset | None = None
    most: int = 12

    def build(self) -> Page:
        """Return the page."""
        title = self.dataset.name + (f" against {self.other.name}" if self.other else "")
        page = Page(title, "Dataset", self._verdict())
        page.add("What differs", self._differences_section())
        page.add("Findings", self._findings())
        for group, heading in _GROUPS.items():
            extra = self._labels_table() if group == "label" else ""
            page.add(heading, extra, self._histograms(group))
        page.add("Pictures", self._pictures())
        page.add("All cases", self._cases_table())
        page.add("Environment", folded("Versions", pairs(describe_environment())))
        return page

    @cached_property
    def _facts(self) -> dict[str, CaseStatistics]:
        return {fact.id: fact for fact in self.dataset.report.statistics}

    @cached_property
    def _order(self) -> list[str]:
        return self.dataset.measures.outliers_first(list(self._facts))

    @cached_property
    def _unusual(self) -> dict[str, list[Measure]]:
        found = {case: self.dataset.measures.unusual(case) for case in self._order}
        return {case: measures for case, measures in found.items() if measures}

    @cached_property
    def _pictured(self) -> list[str]:
        """Cases with a picture: unusual ones, at most half of all, then others spread over the dataset."""
        readable = {case.id for case in self.dataset.report.label_plan.cases} & set(self._facts)
        unusual = [case for case in self._unusual if case in readable][: max(self.most // 2, 1)]
        others = [case for case in self._facts if case in readable and case not in unusual]
        room = min(max(self.most - len(unusual), 0), len(others))
        spread = np.unique(np.linspace(0, max(len(others) - 1, 0), room).astype(int))
        return [*unusual, *(others[i] for i in spread)][: self.most]

    @cached_property
    def _differences(self) -> list[MeasureDifference]:
        return [] if self.other is None else compare_measures(self.dataset.measures, self.other.measures)

    def _verdict(self) -> Markup:
        summary, report = self.dataset.summary, self.dataset.report
        kinds = enumerate_words(plural(n, kind) for kind, n in summary["kinds"].items())
        parts = {part: n for part, n in summary["parts"].items() if part != "all"}
        split = (
            Markup(" ({})").format(join((f"{n} {part}" for part, n in parts.items()), ", ")) if parts else ""
        )
        lead = Markup("{}{} in the layout {}").format(kinds, split, summary["layout"])
        labels = [row["label"] for row in summary["labels"]]
        if labels:
            shown = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
            lead += Markup("; labels: {}").format(shown)
        lines = [paragraph(lead, ".", class_="lead")]
        if report.problems:
            text = Markup("{} training: {}.").format(
                Markup("{} {}").format(
                    plural(len(report.problems), "problem"),
                    "prevents" if len(report.problems) == 1 else "prevent",
                ),
                report.problems[0].message,
            )
            lines.append(paragraph(text, class_="alarm"))
        else:
            lines.append(paragraph("Nothing prevents training.", class_="fine"))
        lines += (
            [paragraph(plural(len(report.warnings), "warning"), ".", class_="alarm")] if report.warnings else []
        )
        return join([*lines, *self._unusual_words(), *self._difference_words()])

    def _unusual_words(self) -> list[Markup]:
        groups = [one.name for one in self.dataset.measures.grouped]
        grouped = Markup("The cases form groups, or vary by much, in {}: see the plots.").format(
            enumerate_words(groups)
        )
        lines = [paragraph(grouped, class_="alarm")] if groups else []
        if not self._unusual:
            other = " other" if groups else ""
            return [*lines, paragraph(f"No case is unusual in any{other} size, spacing, intensity or label.")]
        named = [
            Markup("{} ({})").format(self._link(case), ", ".join(m.name for m in measures[:2]))
            for case, measures in list(self._unusual.items())[:_MOST_NAMED]
        ]
        count = len(self._unusual)
        verb = "is" if count == 1 else "are"
        more = Markup(" and {} more").format(number(count - len(named))) if count > len(named) else ""
        return [
            *lines,
            paragraph(
                Markup("{} {} unusual: {}{}.").format(plural(count, "case"), verb, join(named, "; "), more)
            ),
        ]

    def _difference_words(self) -> list[Markup]:
        if self.other is None:
            return []
        clear = [one for one in self._differences if one.established]
        if not clear:
            return [paragraph(f"No difference from {self.other.name} is established.", class_="fine")]
        named = [
            Markup("{} ({} against {}{})").format(
                one.first.name,
                compact(one.first.median),
                compact(one.second.median),
                f" {one.first.unit}" if one.first.unit else "",
            )
            for one in clear[:_MOST_NAMED]
        ]
        more = Markup(" and {} more").format(number(len(clear) - len(named))) if len(clear) > len(named) else ""
        text = Markup("What differs from {}, by median: {}{}.").format(self.other.name, join(named, "; "), more)
        return [paragraph(text, class_="alarm")]

    def _link(self, case: str) -> Content:
        return tag("a", case, href=f"#{anchor('case', case)}") if case in self._pictured else case

    def _differences_section(self) -> Markup:
        if self.other is None:
            return Markup("")
        columns = [
            Column("measurement"),
            Column(f"median, {self.dataset.name}", "number"),
            Column(f"median, {self.other.name}", "number"),
            Column("unit"),
            Column("P(higher)", "number", f"probability that a case of {self.other.name} has the higher value"),
            Column("p", "number", "test of Kolmogorov and Smirnov, adjusted by Holm's procedure"),
        ]
        rows = [
            [
                one.first.name,
                compact(one.first.median),
                compact(one.second.median),
                one.first.unit or "–",
                percent(one.higher),
                p_value(one.p),
            ]
            for one in self._differences
        ]
        marks = ["some" if one.established else "" for one in self._differences]
        table = Table("Measurements of the cases; shaded rows differ", columns, rows, marks=marks).html()
        return join([self._declared_differences(), table if rows else ""])

    def _declared_differences(self) -> Markup:
        assert self.other is not None
        ours, theirs = self.dataset.summary, self.other.summary
        lines: list[Content] = []
        for key, name in (("kinds", "kind"), ("channels", "channels"), ("types", "type"), ("layout", "layout")):
            if ours[key] != theirs[key]:
                lines.append(f"{name}: {_listed(ours[key])} against {_listed(theirs[key])}")
        own, foreign = ([row["label"] for row in s["labels"]] for s in (ours, theirs))
        for only, name in (
            (set(own) - set(foreign), self.dataset.name),
            (set(foreign) - set(own), self.other.name),
        ):
            if only:
                lines.append(f"labels only in {name}: {', '.join(sorted(only))}")
        return bullets(lines) if lines else Markup("")

    def _findings(self) -> Markup:
        findings = self.dataset.report.findings
        parts: list[Markup] = []
        for status, heading in _STATUSES.items():
            own = [finding for finding in findings if finding.status == status]
            if own:
                items = join(_finding(one, open_=status == "problem") for one in own)
                parts += [tag("h3", f"{heading} ({len(own)})"), items]
        return join(parts)

    def _histograms(self, group: str) -> Markup:
        own = [one for one in self.dataset.measures.measures if one.group == group]
        drawn = [figure(self._histogram(one), _range_words(one)) for one in own]
        rest = drawn[_MOST_PLOTS:]
        more = folded(f"{len(rest)} more", grid(*rest)) if rest else ""
        return join([grid(*drawn[:_MOST_PLOTS]), more]) if drawn else Markup("")

    def _histogram(self, one: Measure) -> Markup:
        other = self.other.measures.find(one.name) if self.other else None
        series = [plots.Group(self.dataset.name, list(one.values.values()), list(one.values))]
        if other is not None and self.other is not None:
            series.append(plots.Group(self.other.name, list(other.values.values()), list(other.values)))
        log = one.log and (other is None or min(other.values.values()) > 0)
        return plots.histogram(series, one.name, log=log, unit=one.unit)

    def _labels_table(self) -> Markup:
        summary = self.dataset.summary
        if not summary["labels"]:
            return Markup("")
        columns = [
            Column("label"),
            Column("cases", "number", "cases that contain the label"),
            Column("voxels", "number"),
            Column("share (%)", "number", "of all labeled voxels"),
            Column("imbalance", "number", "voxels of the most frequent label divided by those of this one"),
            Column("components per case", "number", "median over the cases that have any"),
            Column(f"smallest ({summary['size_unit']})", "number", "size of a connected component"),
            Column(f"median ({summary['size_unit']})", "number", "size of a connected component"),
            Column(f"largest ({summary['size_unit']})", "number", "size of a connected component"),
        ]
        rows = [
            [
                row["label"],
                number(row["cases"]),
                number(row["voxels"]),
                compact(100 * row["share"]),
                compact(row["imbalance"]),
                compact(row["components"]),
                *(
                    compact((row["component_size"] or {}).get(key, math.nan))
                    for key in ("min", "median", "max")
                ),
            ]
            for row in summary["labels"]
        ]
        return Table("Frequency and size of the labels", columns, rows).html()

    def _pictures(self) -> Markup:
        """Return pictures of some cases."""
        cases = {case.id: case for case in self.dataset.report.label_plan.cases}
        figures: list[Markup] = []
        for case in self._pictured:
            drawn = draw_thumbnail(cases[case], self.dataset.report)
            why = ", ".join(one.name for one in self._unusual.get(case, [])[:2])
            caption = Markup("{}{}").format(case, Markup(" <b>unusual: {}</b>").format(why) if why else "")
            content = figure(picture(drawn.source, drawn.alt), caption)
            figures.append(tag("div", content, id=anchor("case", case)))
        note = "Unusual cases first, then others, spread evenly over the dataset."
        return (
            join([paragraph(note, class_="note"), tag("div", *figures, class_="thumbnails")])
            if figures
            else Markup("")
        )

    def _cases_table(self) -> Markup:
        measures = [one for one in self.dataset.measures.measures if one.group != "grid"][:8]
        parts = {case.id: case.part or "all" for case in self.dataset.report.listing.cases}
        columns = [
            Column("case"),
            Column("part", "choice"),
            Column("size"),
            Column("spacing"),
            Column("unusual in"),
        ]
        columns += [Column(f"{one.name} ({one.unit})" if one.unit else one.name, "number") for one in measures]
        rows = [
            [
                self._link(case),
                parts.get(case, "all"),
                _times(self._facts[case].shape),
                _times(self._facts[case].spacing),
                ", ".join(one.name for one in self._unusual.get(case, [])) or "–",
                *(compact(one.values.get(case, math.nan)) for one in measures),
            ]
            for case in self._order
        ]
        marks = ["some" if case in self._unusual else "" for case in self._order]
        return Table("Measurements of every case, outliers first", columns, rows, None, True, marks).html()


def write_dataset_page(path: Path, dataset: Dataset, other: Dataset | None = None, *, most: int = 12) -> None:
    """Write the page of a dataset.

    Args:
        path: file to write.
        dataset: the dataset.
        other: a dataset that it is compared with, such as that of a new site.
        most: number of cases with a picture, unusual ones first.
    """
    DatasetPage(_without_folders(dataset), other, most).build().write(path)


def _without_folders(dataset: Dataset) -> Dataset:
    """Return a dataset whose findings do not name the folders of its files."""
    files = {one.id: (*one.images, *one.label_files) for one in dataset.report.listing.cases}

    def shorten(finding: Finding) -> Finding:
        subject, message, hint = (
            without_folders(text, files.get(finding.subject, ()))
            for text in (finding.subject, finding.message, finding.hint)
        )
        return replace(finding, subject=subject, message=message, hint=hint)

    report = replace(dataset.report, findings=[shorten(one) for one in dataset.report.findings])
    return replace(dataset, report=report)


def _finding(finding: Finding, *, open_: bool) -> Markup:
    parts: list[Content] = [paragraph(finding.hint)] if finding.hint else []
    if finding.cases:
        parts.append(paragraph(f"Cases: {', '.join(finding.cases)}", class_="note"))
    heading = Markup("<b>{}</b>: {}").format(finding.subjects, finding.message)
    return folded(heading, *parts, open_=open_)


def _range_words(measure: Measure) -> Markup:
    values = list(measure.values.values())
    unit = f" {measure.unit}" if measure.unit else ""
    return Markup("<b>{}</b>: median {}, from {} to {}{}, {}").format(
        measure.name, compact(measure.median), compact(min(values)), compact(max(values)), unit,
        plural(len(values), "case"),
    )  # fmt: skip


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} ({n})" for key, n in value.items())
    return str(value)


def _times(values: Sequence[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)
