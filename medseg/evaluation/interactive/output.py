"""Files of an interactive evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.evaluation.interactive.evaluation import InteractiveEvaluation
from medseg.evaluation.output import REPORT_FILE, OutputFiles
from medseg.files import write_text
from medseg.metrics import write_csv, write_summary
from medseg.report.pages.interactive import INTERACTIVE_PAGE, PromptedObject, interactive_page

OBJECTS_FILE, STEPS_FILE = "interactive_objects.csv", "interactions.csv"
SUMMARY_FILE, TABLE_FILE = "interactive.json", "interactive.md"
INTERACTIVE_OUTPUT = OutputFiles(
    "medseg evaluate --interactive",
    (OBJECTS_FILE, STEPS_FILE, TABLE_FILE),
    SUMMARY_FILE,
    columns=("case", "group", "object"),
    page=INTERACTIVE_PAGE,
    marks=("| user | method |",),
)


def write_interactive(output: Path, evaluation: InteractiveEvaluation, *, report: bool = True) -> None:
    """Write the tables of an interactive evaluation, and its report, in place of those of an earlier one.

    Raises:
        ConfigError: if the folder is a file.
        ExistingFileError: if it has files of these names of another origin.
    """
    output = Path(output)
    INTERACTIVE_OUTPUT.check(output, report=report)
    INTERACTIVE_OUTPUT.remove(output)
    write_csv(output / OBJECTS_FILE, evaluation.rows)
    if evaluation.steps:
        write_csv(output / STEPS_FILE, evaluation.steps)
    write_text(output / TABLE_FILE, markdown_table(evaluation.summary))
    write_summary(output / SUMMARY_FILE, evaluation.summary)
    if report:
        curves = [
            (f"{method}, {user}", *evaluation.curve(method, user))
            for user in evaluation.summary["users"]
            for method in evaluation.methods
        ]
        page = interactive_page(evaluation.summary, curves, _worst(evaluation))
        page.write(output / REPORT_FILE)


def markdown_table(summary: Mapping[str, Any]) -> str:
    """Return the scores of all cases and of each group as a Markdown table, and the cases that failed."""
    head, lines = score_cells(summary)
    rows = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)]
    failed = summary["failed"]
    if failed:
        rows += ["", f"{len(failed)} could not be evaluated, left out: {', '.join(failed)}."]
    return "\n".join(rows) + "\n"


def score_cells(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table of scores, as text."""
    first = summary["scores"][0]
    grouped = any(entry["group"] for entry in summary["scores"])
    head = ["user", "method", *(["group"] if grouped else []), "objects"]
    head += [f"Dice@{key}" for key in first["dice"]] + ["95% interval (last)"]
    for target in first["interactions"]:
        head += [f"to {target}", f"failed {target}"]
    head.append("s/interaction")
    return head, [_cells(entry, grouped) for entry in summary["scores"]]


def _cells(entry: Mapping[str, Any], grouped: bool) -> list[str]:
    last = entry["dice"]["last"]
    cells = [
        entry["user"],
        entry["method"],
        *([entry["group"] or "all"] if grouped else []),
        str(entry["objects"]),
    ]
    cells += [_number(one["mean"]) for one in entry["dice"].values()]
    cells.append(f"{_number(last['ci_low'])} to {_number(last['ci_high'])}")
    for one in entry["interactions"].values():
        cells += [_number(one["mean"], 1), f"{100 * one['failure_share']:.0f}%"]
    return [*cells, _number(entry["seconds"]["median"], 2)]


def _number(value: float, digits: int = 3) -> str:
    return "–" if value != value else f"{value:.{digits}f}"  # nan differs from itself


def _worst(evaluation: InteractiveEvaluation) -> list[PromptedObject]:
    """Return the worst objects with their pictures."""
    return [
        PromptedObject(one.case, one.object, one.who or one.user, one.trace.dice, picture)
        for one, picture in evaluation.worst
    ]
