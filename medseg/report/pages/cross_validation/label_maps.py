"""The report of a cross-validation of label maps of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medseg.report import plots
from medseg.report.environment import provenance
from medseg.report.html import (
    Content,
    enumerate_words,
    figure,
    grid,
    interval,
    join,
    number,
    paragraph,
    plural,
    tag,
)
from medseg.report.page import Page
from medseg.report.pages.cross_validation.parts import DIVISION, failed_folds, training_table
from medseg.report.pages.scored_cases import ScoredCases, as_float
from medseg.report.table import Column, Table

_MOST_PLOTS = 6


def unbiased_dice(settings: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return for each label the Dice if the settings of each fold are chosen on the other folds.

    A label has a row for its threshold, if it can have one, and then one for its step, which is compared with
    the predictions with that threshold: the gain of the step on the other folds is added.
    """
    dice: dict[str, float] = {}
    for row in settings:
        before = float(row["before"])
        gain = 0.0 if row["setting"] == "none" else float(row["unbiased"]) - before
        dice[str(row["label"])] = dice.get(str(row["label"]), before) + gain
    return dice


@dataclass(frozen=True)
class CrossValidationPage:
    """Builds the report of a cross-validation.

    Attributes:
        title: name of the study.
        rows: rows of ``cases.csv``: the scores of the out-of-fold predictions, with the fold of each case.
        summary: content of ``summary.json``: ``folds``, ``settings``, ``tta``, ``test``, ``failed``.
        trainings: for each fold its ``fold``, ``minutes`` of updates, number of training ``cases``, and
            ``report``, a path relative to the page.
        evaluation: path of the evaluation's report, relative to the page.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    trainings: Sequence[Mapping[str, Any]] = ()
    evaluation: str | None = None

    def build(self) -> Page:
        """Return the page."""
        page = Page(self.title, "Cross-validation", self._verdict())
        page.add("Folds", self._fold_table(), self._fold_plots())
        page.add("Labels", self._label_plots())
        page.add("Chosen settings", self._settings())
        page.add("Test cases", self._test())
        page.add("All cases", self._cases())
        page.add("Trainings", training_table(self.trainings))
        page.add("How this was measured", paragraph(self._method()), provenance({}))
        return page

    @property
    def _folds(self) -> list[Mapping[str, Any]]:
        return [row for row in self.summary["folds"] if row["fold"] != "all"]

    @property
    def _all(self) -> Mapping[str, Any] | None:
        return next((row for row in self.summary["folds"] if row["fold"] == "all"), None)

    @property
    def _labels(self) -> list[str]:
        own = self._all
        return [] if own is None else [key[5:] for key in own if key.startswith("dice:")]

    def _verdict(self) -> Markup:
        own, parts = self._all, list[Markup]()
        if own is not None:
            lead = Markup("Mean Dice is <b>{} (95% interval {})</b> over {}, each predicted by the model that "
                          "did not train on it.").format(
                number(own["dice"]), interval(own["ci_low"], own["ci_high"]), plural(int(own["cases"]), "case")
            )  # fmt: skip
            parts += [
                paragraph(lead, class_="lead"),
                *self._range(),
                *self._tta(),
                *self._ensemble(),
                *self._steps(),
            ]
        return join([*parts, failed_folds(self.summary.get("failed") or ())])

    def _range(self) -> list[Markup]:
        scored = [row for row in self._folds if not math.isnan(as_float(row["dice"]))]
        if len(scored) < 2:
            return []
        low, high = (choose(scored, key=lambda row: as_float(row["dice"])) for choose in (min, max))
        text = Markup("The folds range from {} (fold {}) to {} (fold {}).")
        return [paragraph(text.format(number(low["dice"]), low["fold"], number(high["dice"]), high["fold"]))]

    def _ensemble(self) -> list[Markup]:
        test = self.summary.get("test")
        if not test:
            return []
        mean, low, high = test["ensemble"]
        gain, gain_low, gain_high = test["gain"]
        lead = Markup(
            "On {} of no fold, the ensemble of all folds has a mean Dice of <b>{}</b> (95% interval {})"
        )
        compared = Markup(", {} compared with the mean of its members ({}).")
        text = lead.format(plural(int(test["cases"]), "test case"), number(mean), interval(low, high))
        text += compared.format(number(gain, 4, signed=True), interval(gain_low, gain_high, 4, signed=True))
        return [paragraph(text)]

    def _steps(self) -> list[Markup]:
        chosen = [row for row in self.summary["settings"] if row["setting"] != "none"]
        if not chosen:
            return []
        named = enumerate_words(Markup("<b>{}</b>: {}").format(row["label"], row["setting"]) for row in chosen)
        dice = unbiased_dice(self.summary["settings"]).values()
        chosen_for = Markup("Chosen for the model file: {}.").format(named)
        text = Markup(" If the settings of each fold are chosen on the other folds, mean Dice is <b>{}</b>.")
        return [paragraph(chosen_for, text.format(number(sum(dice) / len(dice))))]

    def _tta(self) -> list[Markup]:
        if not self.summary.get("tta"):
            return []
        return [
            paragraph(
                "The predictions are made with the mirrors and scales that had the best Dice on these "
                "same cases, so the Dice is slightly too good."
            )
        ]

    def _fold_table(self) -> Markup:
        labels = self._labels
        columns = [Column("fold"), Column("cases", "number"), Column("mean Dice", "number")]
        columns += [Column("95% interval", "number", "over cases"), *(Column(one, "number") for one in labels)]
        rows: list[list[Content]] = [
            [
                str(row["fold"]),
                number(int(row["cases"])),
                number(row["dice"]),
                interval(row["ci_low"], row["ci_high"]),
                *(number(row[f"dice:{label}"]) for label in labels),
            ]
            for row in self.summary["folds"]
        ]
        return Table("Dice of the out-of-fold predictions, means over cases", columns, rows).html()

    def _fold_plots(self) -> Markup:
        if not self.rows:
            return Markup("")
        estimates = [
            plots.Estimate(
                f"fold {row['fold']}", *(as_float(row[key]) for key in ("dice", "ci_low", "ci_high"))
            )
            for row in self._folds
        ]
        own = self._all
        mean = None if own is None else as_float(own["dice"])
        drawn = plots.interval_plot(estimates, "mean Dice", reference=mean)
        groups = [
            plots.Group(f"fold {row['fold']}", list(scores.values()), list(scores))
            for row in self._folds
            for scores in [self._case_means(str(row["fold"]))]
        ]
        boxes = plots.box_plot(groups, "Dice", score=True)
        return grid(
            figure(drawn, "Means and 95% intervals over the cases of a fold; dashed: the mean of all cases."),
            figure(boxes, "Every point is a case: the mean of its labels."),
        )

    def _case_means(self, fold: str) -> dict[str, float]:
        """Return the mean Dice of the labels of each case of a fold."""
        values: dict[str, list[float]] = {}
        for row in self.rows:
            if str(row["fold"]) == fold:
                values.setdefault(str(row["case"]), []).append(as_float(row["dice"]))
        defined = {case: [one for one in dice if not math.isnan(one)] for case, dice in values.items()}
        return {case: sum(dice) / len(dice) if dice else math.nan for case, dice in defined.items()}

    def _label_plots(self) -> Markup:
        drawn: list[Markup] = []
        for label in self._labels[:_MOST_PLOTS] if len(self._labels) > 1 else ():
            groups = [
                plots.Group(
                    f"fold {row['fold']}", [as_float(one["dice"]) for one in own], [one["case"] for one in own]
                )
                for row in self._folds
                for own in [[o for o in self.rows if o["name"] == label and str(o["fold"]) == str(row["fold"])]]
            ]
            drawn.append(figure(plots.box_plot(groups, "Dice", score=True), tag("b", label)))
        return grid(*drawn) if drawn else Markup("")

    def _settings(self) -> Markup:
        steps = self.summary["settings"]
        if not steps:
            return Markup("")
        columns = [
            Column("label"),
            Column("setting", "choice"),
            Column("Dice before", "number"),
            Column("Dice after", "number", "of the cases that the setting was chosen on"),
            Column("chosen on other folds", "number", "Dice if each fold's setting is chosen on the others"),
        ]
        rows: list[list[Content]] = [
            [row["label"], row["setting"], *(number(row[key], 4) for key in ("before", "after", "unbiased"))]
            for row in steps
        ]
        return Table("Settings chosen on the out-of-fold predictions", columns, rows).html()

    def _test(self) -> Markup:
        test = self.summary.get("test")
        if not test:
            return Markup("")
        columns = [Column("model"), Column("mean Dice", "number"), Column("95% interval", "number")]
        rows: list[list[Content]] = [[f"fold {i}", number(v, 4), ""] for i, v in enumerate(test["members"])]
        mean, low, high = test["ensemble"]
        gain, gain_low, gain_high = test["gain"]
        members = sum(test["members"]) / len(test["members"])
        rows += [
            ["mean of the folds", number(members, 4), ""],
            ["ensemble", number(mean, 4), interval(low, high, 4)],
            ["difference", number(gain, 4, signed=True), interval(gain_low, gain_high, 4, signed=True)],
        ]
        table = Table(f"Dice of {int(test['cases'])} test cases", columns, rows).html()
        note = "Nothing was trained or chosen on these cases. The difference is paired by case."
        return join([table, paragraph(note, class_="note")])

    def _cases(self) -> Markup:
        cases = ScoredCases(self.rows)
        columns = [
            Column("case"), Column("fold", "choice"), Column("label", "choice"), Column("finding", "choice"),
            Column("Dice", "number"),
        ]  # fmt: skip
        rows: list[list[Content]] = [
            [one.case, str(one.row["fold"]), one.name, one.finding, number(one.dice)]
            for one in cases.worst_first
        ]
        if not rows:
            return Markup("")
        table = Table("Dice of every case and label, worst first", columns, rows, (4, "ascending"), True).html()
        if self.evaluation is None:
            return table
        more = tag("a", "All metrics, and pictures of the worst cases", href=self.evaluation)
        return join([paragraph(more), table])

    def _method(self) -> str:
        return (
            f"{DIVISION} Mean Dice is the mean over labels of their means over cases. Intervals are "
            "over cases; they do not cover the choice of the training cases."
        )


def write_cross_validation_page(path: Path, page: CrossValidationPage) -> None:
    """Write the report of a cross-validation.

    Args:
        path: file to write.
        page: what it shows.
    """
    page.build().write(path)
