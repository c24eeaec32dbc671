"""The report of an inference: what was segmented, what failed, what differs from the training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medseg.report import plots
from medseg.report.environment import describe_environment
from medseg.report.html import Content, figure, folded, grid, join, number, pairs, paragraph, plural
from medseg.report.page import Page
from medseg.report.pages.case_sections import CaseSections
from medseg.report.pages.scored_cases import ScoredCases, as_float
from medseg.report.table import Column, Table

_MOST_NAMED = 5
_MOST_LABELS = 8


@dataclass(frozen=True)
class SegmentedCase:
    """A case of an inference.

    Attributes:
        case: id of the case.
        status: ``done``, ``skipped``, ``kept`` or ``failed``.
        seconds: time spent on it.
        error: why it failed or was kept.
        warnings: what differs from the training.
        score: largest deviation from the training, relative to what is tolerated; nan if it is not known.
        features: measured features of scan and result, such as ``share:liver``.
    """

    case: str
    status: str
    seconds: float = 0.0
    error: str = ""
    warnings: Sequence[str] = ()
    score: float = math.nan
    features: Mapping[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def of(cls, outcome: Mapping[str, Any], record: Mapping[str, Any] | None) -> SegmentedCase:
        """Build it from the outcome of a case and its provenance record.

        Args:
            outcome: case, status, seconds, error, warnings.
            record: content of ``provenance/CASE.json``; None if there is none.
        """
        shift = (record or {}).get("shift") or {}
        warnings = outcome.get("warnings") or [
            f"{one['finding']} ({one['value']}; training {one['training']})"
            for one in shift.get("warnings", ())
        ]
        return cls(
            str(outcome["case"]),
            str(outcome["status"]),
            float(outcome.get("seconds") or (record or {}).get("seconds") or 0.0),
            str(outcome.get("error") or ""),
            tuple(warnings),
            as_float(shift.get("score")),
            {name: as_float(value) for name, value in (shift.get("features") or {}).items()},
        )


@dataclass(frozen=True)
class InferencePage:
    """Builds the report of an inference.

    Attributes:
        name: name of the output folder.
        cases: the cases.
        model: facts about the model.
        sections: pictures of cases.
    """

    name: str
    cases: Sequence[SegmentedCase]
    model: Mapping[str, str]
    sections: CaseSections = field(default_factory=CaseSections)

    def build(self) -> Page:
        """Return the page."""
        page = Page(self.name, "Inference", self._verdict())
        page.add("Pictures", self.sections.html(ScoredCases([])))
        page.add("Results", self._plots())
        page.add("All cases", self._table())
        page.add("Model", pairs(self.model) if self.model else "")
        page.add("Environment", folded("Versions", pairs(describe_environment())))
        self.sections.equip(page)
        return page

    @cached_property
    def _ordered(self) -> list[SegmentedCase]:
        """The cases: failed ones first, then by their deviation from the training."""
        rank = {"failed": 0, "kept": 1}
        return sorted(
            self.cases,
            key=lambda one: (rank.get(one.status, 2), -(-1.0 if math.isnan(one.score) else one.score)),
        )

    @cached_property
    def _labels(self) -> list[str]:
        keys = dict.fromkeys(key for one in self.cases for key in one.features if key.startswith("share:"))
        return [key.removeprefix("share:") for key in keys]

    def _verdict(self) -> Markup:
        segmented = sum(one.status in ("done", "skipped") for one in self.cases)
        earlier = sum(one.status == "skipped" for one in self.cases)
        lead = Markup("{} of {} segmented").format(
            number(segmented), Markup("{} {}").format(plural(len(self.cases), "scan"), _was(segmented))
        )
        lead += (
            Markup(" ({} earlier, with the same settings)").format(number(earlier)) if earlier else Markup("")
        )
        lines = [paragraph(lead, ".", class_="lead")]
        for status, words in (("failed", "failed"), ("kept", "kept a result of other inputs or settings")):
            own = [one for one in self.cases if one.status == status]
            if own:
                shown = "; ".join(f"{one.case}: {one.error}" for one in own[:_MOST_NAMED])
                text = Markup("{} {}: {}{}").format(plural(len(own), "case"), words, shown, _more(own))
                lines.append(paragraph(text, class_="alarm"))
        lines.append(self._shift_words())
        lines += [paragraph(text, class_="alarm") for text in self._empty_words()]
        note = "There are no references here: this page shows what is unusual, not how good the results are."
        return join([*lines, paragraph(note, class_="note")])

    def _shift_words(self) -> Markup:
        far = [one for one in self._ordered if one.warnings and one.status != "failed"]
        if not far:
            return self._alike_words()
        named = join(
            (Markup("{}: {}").format(self.sections.link(o.case), o.warnings[0]) for o in far[:3]), "; "
        )
        verb = "differs" if len(far) == 1 else "differ"
        more = Markup("; and {} more").format(number(len(far) - 3)) if len(far) > 3 else ""
        text = Markup("{} {} from the training cases: {}{}.").format(
            plural(len(far), "case"), verb, named, more
        )
        return paragraph(text, class_="alarm")

    def _alike_words(self) -> Markup:
        """Return that no scan differs from the training cases, and how many could not be compared with them."""
        segmented = [one for one in self.cases if one.status != "failed"]
        unknown = sum(math.isnan(one.score) for one in segmented)
        if unknown == len(segmented):
            return Markup("")
        if not unknown:
            text = "No scan differs from the training cases by more than is tolerated."
            return paragraph(text, class_="fine")
        text = Markup("{} {} from the training cases by more than is tolerated; {} could not be compared.")
        known = len(segmented) - unknown
        return paragraph(
            text.format(
                Markup("The {} compared scan").format(number(known))
                if known == 1
                else Markup("None of {}").format(plural(known, "compared scan")),
                "does not differ" if known == 1 else "differs",
                number(unknown),
            )
        )

    def _empty_words(self) -> list[Markup]:
        """Return which labels were found nowhere in some or all cases."""
        lines: list[Markup] = []
        for label in self._labels:
            key = f"share:{label}"
            measured = [one for one in self.cases if key in one.features]
            empty = [one for one in measured if one.features[key] == 0]
            if empty:
                shown = ", ".join(one.case for one in empty[:_MOST_NAMED])
                text = Markup("{} is predicted nowhere in {} of {}: {}{}.").format(
                    label, number(len(empty)), plural(len(measured), "case"), shown, _more(empty)
                )
                lines.append(text)
        return lines[:_MOST_NAMED]

    def _plots(self) -> Markup:
        parts: list[Markup] = []
        groups = [self._group(f"share:{label}", label, 100) for label in self._labels[:_MOST_LABELS]]
        if groups:
            drawn = plots.box_plot(groups, "share of the image", unit="%", digits=2)
            parts.append(figure(drawn, "How much of each scan was given each label; every point is a case."))
        scores = [one.score for one in self.cases if not math.isnan(one.score)]
        if scores:
            own = [one for one in self.cases if not math.isnan(one.score)]
            group = plots.Group("scans", scores, [one.case for one in own])
            drawn = plots.box_plot([group], "deviation from the training", digits=2)
            parts.append(figure(drawn, "0: like the training cases; above 1 there is a warning."))
        return grid(*parts) if parts else Markup("")

    def _group(self, key: str, name: str, factor: float) -> plots.Group:
        own = [one for one in self.cases if key in one.features]
        return plots.Group(name, [factor * one.features[key] for one in own], [one.case for one in own])

    def _table(self) -> Markup:
        labels = self._labels[:_MOST_LABELS]
        columns = [Column("case"), Column("status", "choice")]
        columns += [Column("deviation", "number", "from the training cases; above 1 there is a warning")]
        columns += [Column(f"{label} (%)", "number", "share of the image") for label in labels]
        columns += [Column("seconds", "number"), Column("what differs")]
        rows: list[list[Content]] = [
            [
                self.sections.link(one.case),
                one.status,
                number(one.score, 2),
                *(number(100 * one.features.get(f"share:{label}", math.nan), 2) for label in labels),
                number(one.seconds, 1),
                one.error or "; ".join(one.warnings) or "–",
            ]
            for one in self._ordered
        ]
        marks = ["poor" if o.status == "failed" else "some" if o.warnings else "" for o in self._ordered]
        return Table("Cases, failed and unusual ones first", columns, rows, None, True, marks).html()


def write_inference_page(
    path: Path,
    cases: Sequence[SegmentedCase],
    model: Mapping[str, str],
    sections: CaseSections | None = None,
) -> None:
    """Write the report of an inference.

    Args:
        path: file to write; the name of its folder is the title.
        cases: the cases.
        model: facts about the model.
        sections: pictures of cases; None for none.
    """
    name = Path(path).resolve().parent.name
    InferencePage(name, cases, model, sections or CaseSections()).build().write(path)


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _more(cases: Sequence[SegmentedCase]) -> str:
    return f" and {len(cases) - _MOST_NAMED} more" if len(cases) > _MOST_NAMED else ""
