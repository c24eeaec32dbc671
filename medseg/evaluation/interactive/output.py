"""Files of an interactive evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError
from medseg.evaluation.interactive.evaluation import InteractiveEvaluation
from medseg.files import write_text
from medseg.metrics import write_csv, write_summary
from medseg.report.page import is_page
from medseg.report.pages.interactive import PromptedObject, interactive_page

OBJECTS_FILE, STEPS_FILE = "interactive_objects.csv", "interactions.csv"
SUMMARY_FILE, TABLE_FILE, REPORT_FILE = "interactive.json", "interactive.md", "report.html"


def check_interactive_output(output: Path) -> None:
    """Raise a `ConfigError` if files that would be replaced were not written by an interactive evaluation."""
    for name in (OBJECTS_FILE, STEPS_FILE, SUMMARY_FILE, TABLE_FILE, REPORT_FILE):
        path = output / name
        if path.exists() and not _is_ours(path, output):
            raise ConfigError(
                f"{path}: exists and was not written by medseg evaluate --interactive",
                hint="Choose another --output, or move the file.",
                path=path,
            )
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: a file, expected a folder", hint="Choose another --output.", path=output)


def write_interactive(output: Path, evaluation: InteractiveEvaluation, *, report: bool = True) -> None:
    """Write the tables of an interactive evaluation, and its report."""
    output = Path(output)
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


def _is_ours(path: Path, output: Path) -> bool:
    if path.suffix == ".html":
        return is_page(path)
    try:
        content = json.loads((output / SUMMARY_FILE).read_text(encoding="utf-8"))
        return isinstance(content, dict) and "definitions" in content
    except (OSError, ValueError):
        return False
