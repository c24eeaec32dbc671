"""The report of a training: what the data was, what was drawn, learning curves, where validation is worst."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medseg.progress import duration
from medseg.report import plots
from medseg.report.html import (
    Content,
    bullets,
    compact,
    figure,
    folded,
    grid,
    join,
    number,
    pairs,
    paragraph,
    plural,
)
from medseg.report.page import Page
from medseg.report.pages.case_sections import CaseSections
from medseg.report.pages.scored_cases import ScoredCases, as_float
from medseg.report.table import Column, Table

_MOST_CURVES = 12
_MOST_WORST = 5
_MOST_MESSAGES = 30


@dataclass(frozen=True)
class TrainingRecord:
    """What a run folder holds about a training.

    Attributes:
        name: of the run.
        log: entries of ``log.jsonl``.
        cases: entries of ``cases.json``.
        validation: scores of the latest validation, one dict per case and label (``case``, ``name``, ``dice``).
        monitor: key of the score that chooses the best weights.
        total: planned number of updates; None if it is not known.
        running: whether the training goes on.
        data: facts about the data, such as the labels and the spacing.
        settings: the most important settings.
        environment: versions and device.
        warnings: messages of the run.
    """

    name: str
    log: Sequence[Mapping[str, Any]]
    cases: Sequence[Mapping[str, Any]] = ()
    validation: Sequence[Mapping[str, Any]] = ()
    monitor: str = "dice"
    total: int | None = None
    running: bool = False
    data: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    warnings: Sequence[str] = ()

    @property
    def validated(self) -> list[Mapping[str, Any]]:
        """Entries of the log with a validation."""
        return [entry for entry in self.log if f"val_{self.monitor}" in entry]

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The entry with the best validation; None without any."""
        scored = [one for one in self.validated if not math.isnan(as_float(one[f"val_{self.monitor}"]))]
        return max(scored, key=lambda one: as_float(one[f"val_{self.monitor}"]), default=None)


@dataclass(frozen=True)
class TrainingPage:
    """Builds the report of a training.

    Attributes:
        record: the training.
        sections: pictures of the worst validation cases.
    """

    record: TrainingRecord
    sections: CaseSections = field(default_factory=CaseSections)

    def build(self) -> Page:
        """Return the page."""
        record = self.record
        cases = ScoredCases([{"status": "scored", **row} for row in record.validation])
        page = Page(record.name, "Training", self._verdict(cases))
        page.add("Learning curves", self._curves())
        page.add("Validation by case", self._validation(cases))
        page.add("Worst cases", self.sections.html(cases))
        page.add("What was drawn", self._drawn())
        page.add("Data", self._data())
        page.add("Settings", pairs(record.settings) if record.settings else "")
        page.add("Messages", bullets(record.warnings[-_MOST_MESSAGES:]) if record.warnings else "")
        environment = pairs(record.environment)
        page.add("Environment", folded("Versions and device", environment) if record.environment else "")
        self.sections.equip(page)
        return page

    def _verdict(self, cases: ScoredCases) -> Markup:
        record, best = self.record, self.record.best
        if not record.log:
            return paragraph("No epoch is complete yet.", class_="lead")
        last = record.log[-1]
        state = "is running" if record.running else "has ended"
        of = (
            Markup(" of {}").format(number(record.total))
            if record.total and record.total != last["step"]
            else ""
        )
        lead = Markup("The training {} after {}{} {}").format(state, number(int(last["step"])), of, "updates")
        if best is None:
            return join([paragraph(lead, ", without validation.", class_="lead"), *self._time()])
        score = Markup("; best validation {} is <b>{}</b>, at update {}.").format(
            _title(record.monitor), number(as_float(best[f"val_{record.monitor}"])), number(int(best["step"]))
        )
        parts = [paragraph(lead, score, class_="lead"), self._selection(cases), self._labels(best)]
        parts.append(self._trend(best))
        return join([*parts, *self._worst(cases), *self._time()])

    def _selection(self, cases: ScoredCases) -> Markup:
        """Return that the best validation was selected, so that it is an optimistic estimate."""
        count, validated = len(self.record.validated), len(cases.cases)
        of = Markup(" of {}").format(plural(validated, "case")) if validated else ""
        if count < 2 and not of:
            return Markup("")
        best = Markup("It is the best of {}{}").format(plural(count, "validation"), of)
        one = Markup("There was one validation{}").format(of)
        words = "expect lower scores on new cases, and measure them on test cases"
        return paragraph(one if count < 2 else best, f": {words}.", class_="note")

    def _labels(self, best: Mapping[str, Any]) -> Markup:
        """Return the scores of the labels at the best validation, the worst first."""
        scores = {key[9:]: as_float(value) for key, value in best.items() if key.startswith("val_dice:")}
        if len(scores) < 2:
            return Markup("")
        order = sorted(scores, key=lambda name: (math.isnan(scores[name]), scores[name]))
        shown = join((Markup("{} {}").format(name, number(scores[name])) for name in order[:8]), ", ")
        more = f" and {len(order) - 8} more" if len(order) > 8 else ""
        return paragraph(Markup("Dice by label, lowest first: {}{}.").format(shown, more))

    def _trend(self, best: Mapping[str, Any]) -> Markup:
        validated = self.record.validated
        since = sum(one["step"] > best["step"] for one in validated)
        if len(validated) < 3:
            return Markup("")
        if since == 0:
            return paragraph("The latest validation is the best: a longer training may improve it further.")
        text = Markup("There was no improvement in the {} since.").format(plural(since, "validation"))
        return paragraph(text)

    def _worst(self, cases: ScoredCases) -> list[Markup]:
        if not cases.rows:
            return []
        ranked = [one for one in cases.worst_first if not math.isnan(one.dice)][:_MOST_WORST]
        several = len(cases.names) > 1
        shown = join(
            (
                Markup("{}{} ({})").format(
                    self.sections.link(one.case), f", {one.name}" if several else "", number(one.dice)
                )
                for one in ranked
            ),
            "; ",
        )
        return [paragraph(Markup("Where the latest validation is worst: {}.").format(shown))]

    def _time(self) -> list[Markup]:
        seconds = sum(as_float(entry["seconds"]) for entry in self.record.log)
        text = f"{duration(seconds)} of updates" + (
            "; this page follows every validation." if self.record.running else "."
        )
        return [paragraph(text, class_="note")]

    def _curves(self) -> Markup:
        record = self.record
        if not record.log:
            return Markup("")
        steps = [int(entry["step"]) for entry in record.log]
        loss = plots.Curve("training loss", steps, [as_float(entry["loss"]) for entry in record.log])
        rate = plots.Curve("learning rate", steps, [as_float(entry["lr"]) for entry in record.log])
        best = record.best
        mark = None if best is None else float(best["step"])
        parts: list[Markup] = []
        if record.validated:
            drawn = plots.curve_plot(self._scores(), "validation Dice", score=True, mark=mark)
            parts.append(
                figure(drawn, "Mean Dice of whole validation cases. Dashed: the weights that are kept.")
            )
        parts.append(figure(plots.curve_plot([loss], "training loss", mark=mark), "Mean loss of each epoch."))
        parts.append(
            figure(plots.curve_plot([rate], "learning rate"), "Learning rate at the end of each epoch.")
        )
        return grid(*parts)

    def _scores(self) -> list[plots.Curve]:
        validated = self.record.validated
        steps = [int(entry["step"]) for entry in validated]
        clicks = {key: _title(key[4:]) for key in validated[-1] if key.startswith("val_clicks:")}
        keys = [] if clicks else [key for key in validated[-1] if key.startswith("val_dice:")]
        named = {"val_dice": "mean of the labels"} if len(keys) > 1 and "val_dice" in validated[-1] else {}
        named |= {key: key.removeprefix("val_dice:") for key in keys[:_MOST_CURVES]}
        named = clicks or named or {f"val_{self.record.monitor}": self.record.monitor}
        return [plots.Curve(n, steps, [as_float(e.get(key)) for e in validated]) for key, n in named.items()]

    def _validation(self, cases: ScoredCases) -> Markup:
        if not cases.rows:
            return Markup("")
        groups = [
            plots.Group(name, [one.dice for one in cases.of(name)], [one.case for one in cases.of(name)])
            for name in cases.names
        ]
        drawn = plots.box_plot(groups, "Dice", score=True)
        rows = [[self.sections.link(one.case), one.name, number(one.dice)] for one in cases.worst_first]
        columns = [Column("case"), Column("label", "choice"), Column("Dice", "number")]
        table = Table(
            "Dice of the latest validation, worst first", columns, rows, (2, "ascending"), True, page=20
        )
        caption = "Every point is a validation case, on the preprocessed grid."
        return join([grid(figure(drawn, caption), table.html())])

    def _drawn(self) -> Markup:
        record = self.record
        names = [key[14:] for key in (record.log[-1] if record.log else {}) if key.startswith("drawn_patches:")]
        if not names:
            return Markup("")
        last = record.log[-1]
        rows = [
            [
                name,
                _percent(last.get(f"drawn_patches:{name}")),
                _percent(last.get(f"drawn_voxels:{name}")),
                _percent(_mean_of(record.log, f"drawn_patches:{name}")),
                _percent(_mean_of(record.log, f"drawn_voxels:{name}")),
            ]
            for name in names
        ]
        columns = [
            Column("label"),
            Column("patches, last epoch", "number", "share of the patches that contain the label"),
            Column("voxels, last epoch", "number", "share of the voxels of the patches"),
            Column("patches, all epochs", "number"),
            Column("voxels, all epochs", "number"),
        ]
        steps = [int(entry["step"]) for entry in record.log]
        curves = [
            plots.Curve(name, steps, [100 * as_float(e.get(f"drawn_patches:{name}")) for e in record.log])
            for name in names[:_MOST_CURVES]
        ]
        drawn = plots.curve_plot(curves, "patches with the label (%)")
        table = Table("What the patches of an epoch contained", columns, rows)
        return grid(figure(drawn, "Share of the drawn patches that contain each label."), table.html())

    def _data(self) -> Markup:
        record = self.record
        parts = Counter(str(case.get("part") or "train") for case in record.cases)
        counts = ", ".join(f"{parts[part]} {name}" for part, name in _PARTS.items() if parts[part])
        shown: dict[str, Content] = {"cases": counts} if counts else {}
        shown |= record.data
        lists = [
            folded(
                f"{name} cases ({parts[part]})", paragraph(", ".join(_ids(record.cases, part)), class_="note")
            )
            for part, name in _PARTS.items()
            if parts[part]
        ]
        return join([pairs(shown), *lists]) if shown else Markup("")


_PARTS = {"train": "training", "val": "validation", "test": "test"}


def write_training_page(path: Path, record: TrainingRecord, sections: CaseSections | None = None) -> None:
    """Write the report of a training, also while it runs.

    Args:
        path: file to write.
        record: the training.
        sections: pictures of the worst validation cases; None for none.
    """
    TrainingPage(record, sections or CaseSections()).build().write(path)


def _title(monitor: str) -> str:
    metric, _, label = monitor.partition(":")
    if metric == "clicks":
        return (
            f"Dice after {'1 and 5 clicks' if not label else '1 click' if label == '1' else f'{label} clicks'}"
        )
    name = {"dice": "Dice", "iou": "IoU"}.get(metric, metric)
    return f"{name} of {label}" if label else name


def _percent(share: Any) -> Markup:
    return Markup("{}{}").format(compact(100 * as_float(share)), "%")


def _mean_of(log: Sequence[Mapping[str, Any]], key: str) -> float:
    values = [as_float(entry.get(key)) for entry in log if entry.get(key) is not None]
    return sum(values) / len(values) if values else math.nan


def _ids(cases: Sequence[Mapping[str, Any]], part: str) -> list[str]:
    return [str(case["id"]) for case in cases if str(case.get("part") or "train") == part]
