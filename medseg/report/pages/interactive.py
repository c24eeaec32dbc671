"""The report of an interactive evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from medseg.report import plots
from medseg.report.environment import provenance
from medseg.report.html import figure, grid, interval, join, number, paragraph, picture
from medseg.report.media.figures.case import png_data_uri
from medseg.report.media.figures.prompts import PromptPicture
from medseg.report.page import Page
from medseg.report.table import Column, Table

NamedCurve = tuple[str, Sequence[int], Sequence[float]]
"""Name, numbers of interactions and mean Dice."""


INTERACTIVE_PAGE = "Interactive evaluation"
"""Kind of this page."""


@dataclass(frozen=True, eq=False)
class PromptedObject:
    """An object that is shown.

    Attributes:
        case, name: of the object.
        user: who prompted.
        dice: after each interaction.
        picture: its last mask and all prompts.
    """

    case: str
    name: str
    user: str
    dice: Sequence[float]
    picture: PromptPicture


def interactive_page(
    summary: Mapping[str, Any], curves: Sequence[NamedCurve], worst: Sequence[PromptedObject]
) -> Page:
    """Build the report of an interactive evaluation.

    Args:
        summary: content of ``interactive.json``.
        curves: mean Dice against interactions, of each method and user.
        worst: objects with the lowest Dice of the first method.
    """
    methods = summary["methods"]
    page = Page(f"{methods[0]}, prompted", INTERACTIVE_PAGE, _verdict(summary))
    page.add("Scores", _score_table(summary, all_groups=False), _curves(curves))
    page.add("Differences to the baselines", _difference_table(summary))
    page.add("Groups of cases", _score_table(summary, all_groups=True))
    page.add("Worst objects", _pictures(worst))
    page.add("Problems", _problems(summary))
    page.add("How this was measured", provenance(summary["definitions"]))
    return page


def _verdict(summary: Mapping[str, Any]) -> Markup:
    """Say for each user what the model reaches, and how that compares with the best baseline."""
    lines = []
    for entry in summary["scores"]:
        if entry["group"] or entry["method"] != summary["methods"][0]:
            continue
        last = entry["dice"]["last"]
        line = join(
            [
                f"{entry['user']}: mean Dice ",
                number(last["mean"]),
                " (",
                interval(last["ci_low"], last["ci_high"]),
                ") after the last interaction, ",
                number(entry["dice"][next(iter(entry["dice"]))]["mean"]),
                " after the first. ",
            ]
        )
        for target, one in entry["interactions"].items():
            reached = entry["objects"] - one["failures"]
            line += join([number(reached), f" of {entry['objects']} objects reach {target}. "])
        lines.append(paragraph(line))
    return join([*lines, paragraph(f"Cases: {summary['selection']}.")])


def _score_table(summary: Mapping[str, Any], *, all_groups: bool) -> Markup:
    shown = [entry for entry in summary["scores"] if bool(entry["group"]) == all_groups]
    if not shown:
        return Markup("")
    columns = [Column("user", "choice"), Column("method", "choice")]
    columns += [Column("group", "choice")] if all_groups else []
    columns.append(Column("objects", "number"))
    columns += [Column(f"Dice@{key}", "number", "mean over cases") for key in shown[0]["dice"]]
    columns.append(Column("95% interval", "number", "of the mean Dice after the last interaction"))
    for target in shown[0]["interactions"]:
        columns.append(Column(f"to {target}", "number", "mean; failures count with the most interactions"))
        columns.append(Column(f"failed {target}", "number", "objects that do not reach it"))
    columns.append(Column("s / interaction", "number", "median, of the model alone"))
    rows = [_score_row(entry, all_groups) for entry in shown]
    return Table("Scores by user and method", columns, rows).html()


def _score_row(entry: Mapping[str, Any], with_group: bool) -> list[Markup | str]:
    row: list[Markup | str] = [entry["user"], entry["method"], *([entry["group"]] if with_group else [])]
    row.append(number(entry["objects"]))
    row += [number(one["mean"]) for one in entry["dice"].values()]
    row.append(interval(entry["dice"]["last"]["ci_low"], entry["dice"]["last"]["ci_high"]))
    for one in entry["interactions"].values():
        row += [number(one["mean"], 1), number(one["failures"])]
    return [*row, number(entry["seconds"]["median"], 2)]


def _difference_table(summary: Mapping[str, Any]) -> Markup:
    differences = summary["differences"]
    if not differences:
        return Markup("")
    columns = [Column("user", "choice"), Column("baseline", "choice"), Column("group", "choice")]
    for key in differences[0]["dice"]:
        columns += [
            Column(f"Dice@{key}", "number", "model - baseline, mean over cases"),
            Column(f"95% interval @{key}", "number"),
        ]
    rows: list[list[Markup | str]] = []
    for one in differences:
        row: list[Markup | str] = [one["user"], one["baseline"], one["group"] or "all"]
        for value in one["dice"].values():
            row += [
                number(value["mean"], signed=True),
                interval(value["ci_low"], value["ci_high"], signed=True),
            ]
        rows.append(row)
    return Table("Difference of the mean Dice, paired by case", columns, rows).html()


def _curves(curves: Sequence[NamedCurve]) -> Markup:
    drawn = [plots.Curve(name, counts, dice) for name, counts, dice in curves if counts]
    if not drawn:
        return Markup("")
    plot = plots.curve_plot(drawn, "Dice", score=True, axis="interactions")
    return figure(plot, "Mean Dice over objects after each interaction.")


def _pictures(worst: Sequence[PromptedObject]) -> Markup:
    figures = []
    for one in worst:
        source = png_data_uri(np.array(one.picture.draw()))
        steps = join([number(value, 2) for value in one.dice], ", ")
        words = join([f"{one.case}, {one.name}; {one.user}. Dice after each interaction: ", steps])
        figures.append(figure(picture(source, f"{one.case}, {one.name}: masks and prompts"), words))
    if not figures:
        return Markup("")
    legend = paragraph("White: reference; orange: the last mask; green: prompts on the object; red: beside it.")
    return join([legend, grid(*figures)])


def _problems(summary: Mapping[str, Any]) -> Markup:
    lines = [f"{case} could not be read: {reason}" for case, reason in summary["failed"].items()]
    if summary["model_errors"]:
        lines.append(f"Methods failed on {summary['model_errors']} objects, which count with Dice 0.")
    if summary["skipped_objects"]:
        lines.append(f"{summary['skipped_objects']} objects were left out: small, or too many in one case.")
    return join(paragraph(line) for line in lines)
