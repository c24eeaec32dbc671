"""The tables of a study: one row per cell, and all scores in long form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.files import write_text
from medseg.metrics import write_csv
from medseg.study.cell_run import RunOutcome
from medseg.study.cells import Cell, describe_value
from medseg.study.comparison import LOW_DICE, CellScores, Difference, paired_difference

CASES_FILE, TABLE_FILE, MARKDOWN_FILE = "cases.csv", "table.csv", "table.md"

_HEAD = (
    "cell",
    "seeds",
    "mean Dice",
    "difference",
    "95% interval",
    "worst tenth",
    f"Dice < {LOW_DICE}",
    "minutes",
)


def tabulate(cells: Sequence[Cell], outcomes: Sequence[RunOutcome], *, folds: int = 1) -> list[dict[str, Any]]:
    """Return one row per cell that has scores or failed runs; the first cell is the baseline.

    Keys: cell; the varied settings; seeds, cases; dice (mean), dice_sd_seeds; difference, ci_low, ci_high (nan
    for the baseline, and without its scores); worst_tenth, low_cases; minutes (mean time of the updates of a
    training), failed (number of runs); ``dice:LABEL``. Without scores, seeds and cases are 0, the others nan.

    Args:
        cells: the cells.
        outcomes: of their runs on one dataset.
        folds: number of runs with the same cell and seed, whose cases are put together; a seed of which one is
            missing has no scores.
    """
    scores = {cell.name: _scores(cell, outcomes, folds) for cell in cells}
    baseline = scores[cells[0].name]
    keys = list(dict.fromkeys(key for cell in cells for key in cell.changes))
    labels = list(dict.fromkeys(label for one in scores.values() if one for label in one.labels))
    rows: list[dict[str, Any]] = []
    for cell in cells:
        own = scores[cell.name]
        effort = _effort(cell, outcomes)
        if own is None and not effort["failed"]:
            continue
        compared = None
        if own is not None and baseline is not None and cell is not cells[0]:
            compared = paired_difference(own, baseline)
        rows.append(
            {
                "cell": cell.name,
                **{key: describe_value(_setting(cell, key)) for key in keys},
                **_statistics(own, compared),
                **effort,
                **{f"dice:{label}": _label_mean(own, label) for label in labels},
            }
        )
    return rows


def write_tables(
    root: Path,
    part: str,
    table: Sequence[dict[str, Any]],
    outcomes: Sequence[RunOutcome],
    left_out: Sequence[str] = (),
) -> str:
    """Write ``cases.csv``, ``table.csv`` and ``table.md``; return the latter's text.

    Without scores, there is no ``cases.csv``.

    Args:
        root: folder of the study.
        part: the part of the split whose cases are compared.
        table: the rows of ``table.csv``; what only some have, such as the Dice of a label, is nan in others.
        outcomes: one per run.
        left_out: what the tables do not contain although it is complete, see ``find_left_out``.
    """
    rows = [{**_identity(o), **row} for o in outcomes for row in o.rows]
    if rows:
        write_csv(root / CASES_FILE, rows)
    if table:
        keys = dict.fromkeys(key for row in table for key in row)
        write_csv(root / TABLE_FILE, [{key: row.get(key, math.nan) for key in keys} for row in table])
    text = format_markdown(table, outcomes, part, left_out)
    write_text(root / MARKDOWN_FILE, text)
    return text


def format_markdown(
    table: Sequence[dict[str, Any]],
    outcomes: Sequence[RunOutcome],
    part: str,
    left_out: Sequence[str] = (),
) -> str:
    """Format the table for people, with what its columns mean, what is left out, and the runs that failed."""
    named = ["dataset"] if any("dataset" in row for row in table) else []
    lines = [
        "| " + " | ".join([*named, *_HEAD]) + " |",
        "|---" * len(named) + "|---|" + "---:|" * (len(_HEAD) - 1),
    ]
    lines += ["| " + " | ".join([*(str(row[key]) for key in named), *_columns(row)]) + " |" for row in table]
    if any(row["seeds"] for row in table):
        lines += ["", _explanation(max(int(row["cases"]) for row in table), part)]
    if left_out:
        lines += [
            "",
            f"Complete runs of other seeds or settings exist and are left out: {', '.join(left_out)}.",
        ]
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        lines += ["", "Failed runs:", ""]
        lines += [f"* {outcome.describe()}" for outcome in failed]
    return "\n".join(lines) + "\n"


def _explanation(cases: int, part: str) -> str:
    return (
        f"{cases} {part} cases. Mean Dice: mean of the labels' means over cases, then over seeds (± standard "
        "deviation over seeds). Difference: to the baseline, paired by case and seed, with the 95% bootstrap "
        "interval over cases; it does not cover the choice of seeds. Worst tenth: mean of the tenth of the "
        "cases with the lowest Dice. Minutes: of the updates of one training."
    )


def _columns(row: dict[str, Any]) -> list[str]:
    spread = f" ± {row['dice_sd_seeds']:.4f}" if row["seeds"] > 1 else ""
    known = not math.isnan(row["difference"])
    cell = str(row["cell"]).replace("|", "\\|")
    seeds = f"{row['seeds']}" + (f" ({row['failed']} failed)" if row["failed"] else "")
    if not row["seeds"]:
        return [cell, seeds, *[""] * (len(_HEAD) - 2)]
    return [
        cell,
        seeds,
        f"{row['dice']:.4f}{spread}",
        f"{row['difference']:+.4f}" if known else "",
        "" if math.isnan(row["ci_low"]) else f"{row['ci_low']:+.4f} to {row['ci_high']:+.4f}",
        f"{row['worst_tenth']:.4f}",
        f"{row['low_cases']}",
        f"{row['minutes']:.1f}",
    ]


def complete_seeds(
    cell: str, outcomes: Sequence[RunOutcome], folds: int = 1
) -> dict[int, list[dict[str, Any]]]:
    """Return the scores of a cell by seed: of all folds together, without seeds of which a fold is missing."""
    runs: dict[int, list[RunOutcome]] = {}
    for outcome in outcomes:
        if outcome.cell == cell and outcome.rows:
            runs.setdefault(outcome.seed, []).append(outcome)
    return {seed: [row for o in own for row in o.rows] for seed, own in runs.items() if len(own) == folds}


def _identity(outcome: RunOutcome) -> dict[str, Any]:
    """Return the columns that name a run."""
    dataset = {"dataset": outcome.dataset} if outcome.dataset else {}
    fold = {} if outcome.fold is None else {"fold": outcome.fold}
    return {**dataset, "cell": outcome.cell, "seed": outcome.seed, **fold}


def _scores(cell: Cell, outcomes: Sequence[RunOutcome], folds: int) -> CellScores | None:
    rows = complete_seeds(cell.name, outcomes, folds)
    return CellScores.of(rows) if rows else None


def _statistics(scores: CellScores | None, difference: Difference | None) -> dict[str, Any]:
    none = math.nan
    if scores is None:
        empty = ("dice", "dice_sd_seeds", "difference", "ci_low", "ci_high", "worst_tenth", "low_cases")
        return {"seeds": 0, "cases": 0, **dict.fromkeys(empty, none)}
    means = scores.seed_means
    return {
        "seeds": len(scores.seeds),
        "cases": len(scores.cases),
        "dice": float(means.mean()),
        "dice_sd_seeds": float(np.std(means, ddof=1)) if len(means) > 1 else none,
        "difference": difference.mean if difference else none,
        "ci_low": difference.low if difference else none,
        "ci_high": difference.high if difference else none,
        "worst_tenth": scores.worst_tenth,
        "low_cases": scores.low_cases,
    }


def _effort(cell: Cell, outcomes: Sequence[RunOutcome]) -> dict[str, Any]:
    own = [o for o in outcomes if o.cell == cell.name]
    seconds = [o.seconds for o in own if o.rows]
    return {
        "minutes": sum(seconds) / len(seconds) / 60 if seconds else math.nan,
        "failed": sum(o.status == "failed" for o in own),
    }


def _label_mean(scores: CellScores | None, label: str) -> float:
    if scores is None or label not in scores.labels:
        return math.nan
    return float(np.mean(scores.label_means[:, scores.labels.index(label)]))


def _setting(cell: Cell, key: str) -> Any:
    """Return the value of a setting in a cell; None where another member of a union has no such setting."""
    value: Any = cell.config.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
