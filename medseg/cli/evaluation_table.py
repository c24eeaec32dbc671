"""The tables that ``medseg evaluate`` prints: statistics per label, or the scores of a single case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from medseg.evaluation import Evaluation

_MOST_LISTED = 20
_WIDEST = 400
"""Width from which a table wraps."""
_SHOWN = ("iou", "assd", "nsd", "cldice", "lesion_f1", "brats_dice", "ece")
"""Columns shown beside the Dice and the percentiles of the Hausdorff distance, where an evaluation has them."""


def print_evaluation(evaluation: Evaluation) -> None:
    """Print a table with one row per label, the scores of the dataset, and which cases were scored.

    A single case gets its scores, more cases get means with intervals, and the numbers of cases, of missed and
    of spurious structures.
    """
    from rich.console import Console

    from medseg.metrics.tables.mistaken import describe_mistaken, mistaken_labels

    summary = evaluation.summary
    single = summary["n_cases"] == 1
    table = _table(_case_cells(evaluation) if single else _label_cells(summary))
    Console(highlight=False, width=_WIDEST, markup=False).print(table)
    mean = summary["overall"]["mean_dice"]
    click.echo(f"mean Dice {number(mean['mean'], 4)}{_with_interval(mean, 4)}")
    if "dataset" in summary:
        scores = summary["dataset"]
        click.echo(
            f"pixel accuracy {number(scores['pixel_accuracy'], 4)}, "
            f"mIoU with background {number(scores['miou_with_background'], 4)}"
        )
    mistaken = describe_mistaken(mistaken_labels(summary.get("dataset") or {}))
    for line in (
        *_miss_lines(summary),
        *([mistaken] if mistaken else []),
        *_coverage_lines(summary["coverage"]),
        *(f"note: {note}" for note in summary["notes"]),
    ):
        click.echo(line)


def number(value: Any, digits: int = 3) -> str:
    """Format a number; a dash if it is undefined."""
    if isinstance(value, float) and math.isnan(value):
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float | int) else str(value)


def _table(rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    table = Table(*rows[0], box=None)
    for row in rows[1:]:
        table.add_row(*row)
    return table


def _label_cells(summary: Mapping[str, Any]) -> list[list[str]]:
    from medseg.metrics.tables.columns import is_distance, title_of

    unit = summary["definitions"]["unit"]
    present = next(iter(summary["labels"].values()))["metrics"]
    columns = [name for name in present if _is_shown(name)]
    head = ["label", "cases", "missed", "spurious", "Dice", "95% interval", "median"]
    rows = [[*head, *(title_of(name, unit) for name in columns)]]
    for name, entry in summary["labels"].items():
        metrics, structures = entry["metrics"], entry["structures"]
        dice = metrics["dice"]
        means = [
            number(metrics[one]["mean"], 2 if is_distance(one) else 3) + _count(metrics[one]["n"], dice["n"])
            for one in columns
        ]
        rows.append(
            [
                *(name, str(dice["n"]), _share(structures), str(structures["spurious"])),
                *(number(dice["mean"]), _interval(dice, 3), number(dice["median"]), *means),
            ]
        )
    return rows


def _case_cells(evaluation: Evaluation) -> list[list[str]]:
    from medseg.metrics.tables.columns import is_distance, size_unit, title_of

    rows = [row for row in evaluation.rows if not math.isnan(row["tp"])]
    columns = [name for name in rows[0] if name in ("dice", "precision", "recall") or _is_shown(name)]
    sizes = [key for key in rows[0] if key.startswith(("reference_", "predicted_"))]
    measure = size_unit(sizes).replace("3", "³").replace("2", "²")
    heads = [title_of(column, evaluation.unit) for column in columns]
    cells = [["label", *heads, f"reference {measure}", f"predicted {measure}"]]
    for row in rows:
        scores = [number(row[one], 2 if is_distance(one) else 3) for one in columns]
        cells.append([row["name"], *scores, *(number(row[size], 0) for size in sizes)])
    return cells


def _is_shown(column: str) -> bool:
    return column in _SHOWN or (column.startswith("hd") and column != "hd")


def _miss_lines(summary: Mapping[str, Any]) -> list[str]:
    """Say how many structures were missed or spurious, and how they count."""
    structures, definitions = summary["overall"]["structures"], summary["definitions"]
    missed, spurious = structures["missed"], structures["spurious"]
    if not missed and not spurious:
        return []
    counted = f"{missed} of {structures['in_reference']} structures missed, {spurious} spurious"
    if summary["n_cases"] == 1:
        return [counted]
    return [f"{counted}; in the means {definitions['misses_rule']}"]


def _coverage_lines(coverage: dict[str, Any]) -> list[str]:
    """Describe how many references were scored, and which were not."""
    from medseg.metrics.tables.coverage import split_by_rule

    missing = coverage["missing"]
    parts = [f"{coverage['scored']} of {coverage['references']} references scored"]
    for kind, text in (("failed", "failed"), ("missing", "without a prediction")):
        counted, left_out = split_by_rule(coverage, kind)
        parts += [f"{len(counted)} {text}, counted with the worst scores"] if counted else []
        parts += [f"{len(left_out)} {text}, left out of the means"] if left_out else []
    count = coverage["not_requested"]
    parts += [f"{count} {'was' if count == 1 else 'were'} not requested"] if count else []
    extra = coverage["extra"]
    parts += (
        [f"{len(extra)} {'prediction has' if len(extra) == 1 else 'predictions have'} no reference, ignored"]
        if extra
        else []
    )
    lines = ["; ".join(parts)]
    lines += [f"  no reference: {case}" for case in extra[:_MOST_LISTED]]
    lines += [f"  missing: {case}: {reason}" for case, reason in list(missing.items())[:_MOST_LISTED]]
    if len(missing) > _MOST_LISTED:
        lines.append(f"  … and {len(missing) - _MOST_LISTED} more, all in summary.json")
    return lines


def _share(structures: Mapping[str, int]) -> str:
    return f"{structures['missed']} of {structures['in_reference']}"


def _count(cases: int, usual: int) -> str:
    """Return the number of cases behind a mean where it differs from that of the row."""
    return "" if cases == usual else f" (n = {cases})"


def _interval(entry: Mapping[str, Any], digits: int) -> str:
    if math.isnan(entry["ci_low"]):
        return "–"
    return f"{number(entry['ci_low'], digits)} to {number(entry['ci_high'], digits)}"


def _with_interval(entry: Mapping[str, Any], digits: int) -> str:
    return "" if math.isnan(entry["ci_low"]) else f", 95% interval {_interval(entry, digits)}"
