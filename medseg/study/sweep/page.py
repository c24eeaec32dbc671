"""The report of a sweep: the best settings, scores over settings, importance, all trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medseg.progress import duration
from medseg.report import plots
from medseg.report.environment import provenance
from medseg.report.folder_names import without_folders
from medseg.report.html import (
    Content,
    bullets,
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
from medseg.report.plots.trials import Kind
from medseg.report.table import Column, Table
from medseg.study.sweep.importance import FEWEST_TRIALS, measure_importance
from medseg.study.sweep.records import TrialRecord, pareto_front
from medseg.study.sweep.search_space.options import SECONDS, SweepConfig
from medseg.study.sweep.search_space.space import SearchSpace

_TITLES = {"dice": "Dice", "iou": "IoU", "nsd": "normalized surface Dice", "hd95": "95% Hausdorff distance"}


@dataclass(frozen=True)
class SweepPage:
    """Builds the report of a sweep.

    Attributes:
        name: of the study.
        trials: its trials.
        space: the varied settings.
        sweep: what was optimized, and how.
    """

    name: str
    trials: Sequence[TrialRecord]
    space: SearchSpace
    sweep: SweepConfig

    def build(self) -> Page:
        """Return the page."""
        page = Page(self.name, "Sweep", self._verdict())
        page.add("Best settings", self._best_settings())
        page.add("Pareto front", self._front())
        page.add("Trials in order", self._history())
        page.add("Importance", self._importance())
        page.add("Scores over settings", self._slices())
        page.add("All trials", self._table())
        page.add("How the settings were chosen", self._notes(), provenance({}))
        return page

    @cached_property
    def front(self) -> list[TrialRecord]:
        """The trials that no other one surpasses in every objective."""
        return pareto_front(self.trials, self.sweep.maximized)

    @property
    def best(self) -> TrialRecord | None:
        """The best trial, with several objectives that of the first one."""
        return self.front[0] if self.front else None

    @cached_property
    def titles(self) -> list[str]:
        """The objectives in words."""
        return [_title(one) for one in self.sweep.objectives]

    @cached_property
    def baseline(self) -> TrialRecord | None:
        """The complete trial with the settings that are varied."""
        records = self.space.baseline() if self.sweep.baseline else None
        first = self.trials[0] if self.trials else None
        same = first is not None and records is not None and self._values(first) == self._values_of(records)
        return first if same and first is not None and first.state == "complete" else None

    def _values(self, trial: TrialRecord) -> dict[str, Any]:
        return self._values_of(trial.changes)

    def _values_of(self, records: Any) -> dict[str, Any]:
        return {
            one.key: one.tidy(records[one.key]) if one.kind != "choice" else records[one.key]
            for one in self.space.settings
            if one.key in records
        }

    def _count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)

    def _verdict(self) -> Markup:
        parts: list[Content] = [self._lead()]
        counts = [
            Markup("{} {}").format(number(self._count(state)), word)
            for state, word in (
                ("complete", "complete"), ("pruned", "pruned"), ("failed", "failed"),
                ("running", "not finished"), ("waiting", "waiting"),
            )
            if self._count(state)
        ]  # fmt: skip
        seconds = sum(trial.seconds for trial in self.trials)
        parts.append(
            paragraph(plural(len(self.trials), "trial"), ": ", enumerate_words(counts), "; ",
                      f"updates of all trainings: {duration(seconds)}.")
        )  # fmt: skip
        parts.append(
            paragraph(
                "Settings are chosen on the validation cases; the test cases were not read. The best of many "
                "trials was chosen by its score, so the score is optimistic: measure it on the test cases once."
            )
        )
        return join(parts)

    def _lead(self) -> Markup:
        best = self.best
        if best is None:
            return paragraph("No trial is complete yet.", class_="lead")
        scores = enumerate_words(
            Markup("{} {}").format(title, compact(score))
            for title, score in zip(self.titles, best.scores, strict=True)
        )
        if len(self.front) > 1 and len(self.titles) > 1:
            text = Markup("{} are on the Pareto front. The one with the best {} is trial {}: {}.").format(
                plural(len(self.front), "trial"), self.titles[0], best.number, scores
            )
            return paragraph(text, class_="lead")
        text = Markup("Trial {} is the best: {}").format(best.number, scores)
        base = self.baseline
        if base is not None and base is not best:
            text += Markup("; the configuration itself (trial {}) has {}").format(
                base.number, compact(base.scores[0])
            )
        elif base is best:
            text += "; these are the settings of the configuration itself"
        return paragraph(text, ".", class_="lead")

    def _best_settings(self) -> Markup:
        if self.best is None:
            return Markup("")
        given = self.space.describe_baseline()
        rows: list[list[Content]] = [
            [
                one.key,
                _value(self.best.changes.get(one.key)),
                given[one.key],
                one.describe(),
            ]
            for one in self.space.settings
        ]
        columns = [Column("setting"), Column("best"), Column("configuration"), Column("searched")]
        note = paragraph(
            "All settings of the best trial are in ", tag("code", "best.yaml"), ", which ",
            tag("code", "medseg train"), " takes.", class_="note",
        )  # fmt: skip
        return join([Table("The varied settings", columns, rows).html(), note])

    def _front(self) -> Markup:
        if len(self.sweep.objectives) < 2 or not self.front:
            return Markup("")
        complete = [trial for trial in self.trials if trial.state == "complete"]
        numbers = [trial.number for trial in complete]
        parts: list[Markup] = []
        for index in range(1, len(self.sweep.objectives)):
            points = [self._point(trial, trial.scores[index], trial.scores[0]) for trial in complete]
            line = [numbers.index(trial.number) for trial in pareto_front(*self._pair(complete, index))]
            drawn = plots.front_plot(points, (self.titles[index], self.titles[0]), line)
            parts.append(figure(drawn, "The line connects the trials that no other one surpasses in both."))
        note = paragraph("Their settings are in the folder ", tag("code", "pareto"), ".", class_="note")
        return join([grid(*parts), self._trial_table("Pareto front", self.front), note])

    def _pair(self, complete: Sequence[TrialRecord], index: int) -> tuple[list[TrialRecord], tuple[bool, bool]]:
        """Return the trials with the first objective and another one."""
        pairs = [
            TrialRecord(trial.number, "complete", scores=(trial.scores[0], trial.scores[index]))
            for trial in complete
        ]
        return pairs, (self.sweep.maximized[0], self.sweep.maximized[index])

    def _history(self) -> Markup:
        reference = self.baseline.scores[0] if self.baseline is not None else None
        points = [self._point(trial, float(trial.number)) for trial in self.trials]
        parts: list[Markup] = []
        if any(math.isfinite(point.y) for point in points):
            drawn = plots.history_plot(
                points, self.titles[0], higher=self.sweep.maximized[0], reference=reference
            )
            caption = "The line is the best score so far."
            dashed = " Dashed: the configuration itself." if reference is not None else ""
            parts.append(figure(drawn, caption + dashed))
        curves = [
            plots.TrialCurve(
                f"trial {trial.number}", list(trial.curve), list(trial.curve.values()), self._kind(trial)
            )
            for trial in self.trials
            if trial.curve
        ]
        if curves:
            budget = self.space.config({}).train.budget is not None
            axis = "tenth of the time budget" if budget else "epoch"
            drawn = plots.trial_curves(curves, f"{self.titles[0]} during the training", axis)
            parts.append(figure(drawn, "Scores by which trials are pruned; dashed: pruned trials."))
        return grid(*parts) if parts else Markup("")

    def _importance(self) -> Markup:
        parts: list[Markup] = []
        for index, title in enumerate(self.titles):
            found = measure_importance(self.trials, self.space, index, higher=self.sweep.maximized[index])
            if found:
                drawn = plots.bar_chart(list(found), list(found.values()), f"share, {title}", digits=2)
                parts.append(figure(drawn, f"How much each setting decides whether the {title} is good."))
        if not parts:
            enough = Markup("Importance needs {} complete trials with different scores.").format(FEWEST_TRIALS)
            return paragraph(enough, class_="note")
        note = (
            "PED-ANOVA (Watanabe et al. 2023) compares the values of the good trials with those of all "
            "complete trials. Pruned trials do not count, so a choice whose trials were all pruned has little "
            "importance here. With few trials the shares are uncertain; they depend on the searched ranges."
        )
        return join([grid(*parts), paragraph(note, class_="note")])

    def _slices(self) -> Markup:
        drawn: list[Markup] = []
        for index, title in enumerate(self.titles):
            for one in self.space.settings:
                points = [
                    self._point(trial, trial.changes[one.key], self._score(trial, index))
                    for trial in self.trials
                    if one.key in trial.changes
                ]
                if any(math.isfinite(point.y) for point in points):
                    plot = plots.slice_plot(
                        points, title, one.key, log=one.domain.log, categories=one.domain.names
                    )
                    drawn.append(figure(plot, tag("b", one.key)))
        return grid(*drawn) if drawn else Markup("")

    def _table(self) -> Markup:
        return self._trial_table("All trials, best first", self._sorted()) if self.trials else Markup("")

    def _sorted(self) -> list[TrialRecord]:
        sign = -1 if self.sweep.maximized[0] else 1
        return sorted(
            self.trials, key=lambda one: (not one.scores, sign * one.scores[0] if one.scores else 0, one.number)
        )

    def _trial_table(self, caption: str, trials: Sequence[TrialRecord]) -> Markup:
        columns = [Column("trial"), Column("state", "choice")]
        columns += [Column(title, "number") for title in self.titles]
        columns += [
            Column(one.key, "text" if one.kind == "choice" else "number") for one in self.space.settings
        ]
        columns += [
            Column("minutes", "number", "of the updates of the training"),
            Column("last validation", "number", "score of the last validation of the training"),
            Column("processes", "number", "processes that worked on it; more than 1 if some were killed"),
            Column("error"),
        ]
        rows = [self._trial_row(trial) for trial in trials]
        marks = ["poor" if one.state == "failed" else "some" if one in self.front else "" for one in trials]
        return Table(caption, columns, rows, controls=len(rows) > 8, marks=marks).html()

    def _trial_row(self, trial: TrialRecord) -> list[Content]:
        scores = trial.scores or (math.nan,) * len(self.titles)
        return [
            tag("a", number(trial.number), href=f"trials/{trial.number:04}/run/report.html")
            if trial.curve
            else number(trial.number),
            trial.state,
            *(compact(score) for score in scores),
            *(_value(trial.changes.get(one.key)) for one in self.space.settings),
            number(trial.seconds / 60, 1),
            number(list(trial.curve.values())[-1] if trial.curve else None),
            number(trial.attempts),
            without_folders(trial.error or ""),
        ]

    def _notes(self) -> Markup:
        sweep = self.sweep
        pruning = {
            "median": "Trials are pruned if their best validation is below the median of the others at the "
            f"same point, after {sweep.startup} complete trials and {100 * sweep.warmup:.0f}% of the training.",
            "hyperband": "Trials are pruned by Hyperband (Li et al. 2018).",
            "none": "No trial is pruned.",
        }
        sampler = {
            "tpe": "Values are drawn by tree-structured Parzen estimators (Bergstra et al. 2011), those of the "
            "first ten trials at random.",
            "random": "Values are drawn at random.",
        }
        measured = (
            "Each objective is measured on all validation cases with the model file of the trial, as "
            "medseg evaluate does: the mean over cases, then over labels."
        )
        lines: list[Content] = [measured, sampler[sweep.sampler], pruning[sweep.pruning]]
        if SECONDS in sweep.objectives:
            lines.append(
                "Seconds per case: the median over the validation cases, with reading and writing. Other "
                "processes on the machine, such as trials at the same time, slow it down."
            )
        lines.append(
            "All trials have the same seed; a difference of the size of that between seeds means nothing."
        )
        return bullets(lines)

    def _point(self, trial: TrialRecord, x: float | str, y: float | None = None) -> plots.TrialPoint:
        score = self._score(trial, 0) if y is None else y
        return plots.TrialPoint(f"trial {trial.number}", x, score, self._kind(trial))

    def _score(self, trial: TrialRecord, index: int) -> float:
        """Return an objective; of a pruned trial, the last validation."""
        if trial.scores:
            return trial.scores[index]
        pruned = trial.state == "pruned" and index == 0 and trial.curve
        return list(trial.curve.values())[-1] if pruned else math.nan

    def _kind(self, trial: TrialRecord) -> Kind:
        if self.best is not None and trial.number == self.best.number:
            return "best"
        return "complete" if trial.state == "complete" else "pruned"


def write_sweep_page(
    path: Path, name: str, trials: Sequence[TrialRecord], space: SearchSpace, sweep: SweepConfig
) -> None:
    """Write the report of a sweep.

    Args:
        path: file to write.
        name: of the study.
        trials: its trials.
        space: the varied settings.
        sweep: what was optimized, and how.
    """
    SweepPage(name, trials, space, sweep).build().write(path)


def _title(objective: str) -> str:
    """Return an objective in words, such as ``validation Dice of lesion``."""
    if objective == SECONDS:
        return "seconds per case"
    metric, _, label = objective.partition(":")
    return f"validation {_TITLES[metric]}" + (f" of {label}" if label else "")


def _value(value: Any) -> Content:
    return "" if value is None else value if isinstance(value, str) else compact(value)
