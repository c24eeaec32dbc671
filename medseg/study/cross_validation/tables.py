"""Tables of a cross-validation: one row per fold and one for all, and all scores in long form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.tables.statistics import interval_of_label_means, mean_defined

if TYPE_CHECKING:
    from medseg.study.cross_validation.ensemble import EnsembleScores
    from medseg.study.cross_validation.options import FailedFold
    from medseg.study.cross_validation.selection.steps import ChosenSetting

FloatArray = NDArray[np.float64]
Row = Mapping[str, Any]

ALL = "all"
"""Name of the row of all folds."""


def dice_matrix(
    rows: Sequence[Row], cases: Sequence[str] = (), labels: Sequence[str] = ()
) -> tuple[FloatArray, tuple[str, ...], tuple[str, ...]]:
    """Return the Dice (C, L) of rows of ``cases.csv``, with the cases and the labels; nan if not defined.

    Args:
        rows: the rows.
        cases: ids in order; by default those of the rows.
        labels: names in order; by default those of the rows.
    """
    cases = tuple(cases) or tuple(dict.fromkeys(str(row["case"]) for row in rows))
    labels = tuple(labels) or tuple(dict.fromkeys(str(row["name"]) for row in rows))
    positions = {case: index for index, case in enumerate(cases)}
    columns = {label: index for index, label in enumerate(labels)}
    matrix = np.full((len(cases), len(labels)), math.nan)
    for row in rows:
        matrix[positions[str(row["case"])], columns[str(row["name"])]] = row["dice"]
    return matrix, cases, labels


def mean_dice(dice: FloatArray) -> tuple[float, float, float]:
    """Return the mean of the labels' means over cases (C, L), and its interval, as ``medseg evaluate`` does."""
    mean = float(mean_defined(mean_defined(dice, axis=0), axis=0)) if dice.size else math.nan
    return (mean, *interval_of_label_means(dice, bounds=(0.0, 1.0)))


def fold_rows(rows: Sequence[Row], fold_of: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return one row per fold and one for all of them.

    Keys: fold, cases, dice, ci_low, ci_high (95% interval over cases), ``dice:LABEL``.

    Args:
        rows: rows of the ``cases.csv`` of the out-of-fold predictions.
        fold_of: case → fold.
    """
    _, _, labels = dice_matrix(rows)
    table: list[dict[str, Any]] = []
    for fold in (*sorted({fold_of[str(row["case"])] for row in rows}), ALL):
        own = [row for row in rows if fold in (ALL, fold_of[str(row["case"])])]
        matrix, cases, _ = dice_matrix(own, labels=labels)
        mean, low, high = mean_dice(matrix)
        means = {f"dice:{n}": float(v) for n, v in zip(labels, mean_defined(matrix, axis=0), strict=True)}
        head = {"fold": str(fold), "cases": len(cases), "dice": mean, "ci_low": low, "ci_high": high}
        table.append(head | means)
    return table


def with_folds(rows: Sequence[Row], fold_of: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return rows of ``cases.csv`` with the column ``fold`` after the case."""
    return [{"case": row["case"], "fold": fold_of[str(row["case"])], **row} for row in rows]


def format_markdown(
    table: Sequence[Row],
    steps: Sequence[ChosenSetting] = (),
    test: EnsembleScores | None = None,
    failed: Sequence[FailedFold] = (),
    *,
    tta: bool = False,
) -> str:
    """Format all tables for people, with what their columns mean and the folds that failed.

    With ``tta``, the predictions are made with test-time augmentation that was chosen on them.
    """
    parts = [_fold_table(table, tta=tta)] if table else []
    parts += [_step_table(steps)] if steps else []
    parts += [_test_table(test)] if test is not None else []
    return join_parts(parts, failed)


def join_parts(parts: Sequence[Sequence[str]], failed: Sequence[FailedFold]) -> str:
    """Return parts of lines, and the folds that failed, as text."""
    listed = [["Failed folds:", "", *(f"* {one.describe()}" for one in failed)]] if failed else []
    return "\n\n".join("\n".join(part) for part in (*parts, *listed)) + "\n"


def _fold_table(table: Sequence[Row], *, tta: bool) -> list[str]:
    labels = [key.removeprefix("dice:") for key in table[0] if key.startswith("dice:")]
    head = ["fold", "cases", "mean Dice", "95% interval", *(label.replace("|", "\\|") for label in labels)]
    lines = table_head(head)
    for row in table:
        scores = [f"{row[f'dice:{label}']:.4f}" for label in labels]
        lines.append(table_line(row["fold"], row["cases"], f"{row['dice']:.4f}", _interval(row), *scores))
    return [
        *lines,
        "",
        "Every case is predicted by the model that did not train on it. Mean Dice: mean of the labels' means "
        "over cases. The interval is over cases; it does not cover the choice of the training cases."
        + (
            " Mirrors and scales were chosen on the same cases, so the Dice is slightly too good."
            if tta
            else ""
        ),
    ]


def _step_table(steps: Sequence[ChosenSetting]) -> list[str]:
    lines = table_head(["label", "setting", "Dice before", "Dice after", "chosen on other folds"])
    for one in steps:
        values = (f"{value:.4f}" for value in (one.before, one.after, one.unbiased))
        lines.append(table_line(one.label.replace("|", "\\|"), one.setting, *values))
    return [
        *lines,
        "",
        "Dice of the out-of-fold predictions. The last column is the Dice if the setting of each fold is "
        "chosen on the other folds, so that no case is scored with a setting that was chosen on it.",
    ]


def _test_table(test: EnsembleScores) -> list[str]:
    lines = table_head(["model", "mean Dice", "95% interval"])
    lines += [table_line(f"fold {number}", f"{value:.4f}", "") for number, value in enumerate(test.members)]
    mean, low, high = test.ensemble
    gain, gain_low, gain_high = test.gain
    lines += [
        table_line("mean of the folds", f"{test.mean_of_members:.4f}", ""),
        table_line("ensemble", f"{mean:.4f}", f"{low:.4f} to {high:.4f}"),
        table_line("difference", f"{gain:+.4f}", f"{gain_low:+.4f} to {gain_high:+.4f}"),
    ]
    return [
        *lines,
        "",
        f"{test.cases} test cases, on which nothing was trained or chosen. Difference: of the ensemble from "
        "the mean of its members, paired by case.",
    ]


def table_head(names: Sequence[str]) -> list[str]:
    """Return the first two lines of a table of one column of text and columns of numbers."""
    return [table_line(*names), "|---|" + "---:|" * (len(names) - 1)]


def table_line(*cells: object) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def _interval(row: Row) -> str:
    return "" if math.isnan(row["ci_low"]) else f"{row['ci_low']:.4f} to {row['ci_high']:.4f}"
