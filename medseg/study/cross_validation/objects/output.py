"""What a cross-validation of objects writes at its end: tables, summary and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medseg.evaluation.objects import ObjectEvaluation
from medseg.evaluation.output import REPORT_FILE
from medseg.files import write_json, write_table, write_text
from medseg.instances.options import InstanceDecoding
from medseg.report.pages.cross_validation import ObjectFoldsPage
from medseg.report.pages.objects import SHORT_TITLES
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.objects.scores import score_row
from medseg.study.cross_validation.options import CrossValidationResult, FailedFold
from medseg.study.cross_validation.output import list_trainings
from medseg.study.cross_validation.settings import Study
from medseg.study.cross_validation.tables import ALL, join_parts, table_head, table_line, with_folds

_SHOWN = ("f1_50", "f1_75", "pooled_50", "pooled_mean", "pq", "ap50", "ap")
_NO_ENSEMBLE = (
    "Detectors cannot be averaged, so there is no ensemble file. Use the model of a fold, such as "
    "folds/fold_0/run, or train one on all cases."
)


@dataclass(frozen=True)
class ObjectResults:
    """Everything that a cross-validation of objects found.

    Attributes:
        evaluation: of the out-of-fold predictions; None without any.
        decoding: thresholds of the ensemble; None while a fold is missing.
        test: one row of scores of the test cases for each model.
        failed: the folds that failed.
    """

    evaluation: ObjectEvaluation | None = None
    decoding: InstanceDecoding | None = None
    test: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    failed: list[FailedFold] = field(default_factory=list[FailedFold])


def object_fold_rows(evaluation: ObjectEvaluation, fold_of: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return one row of counts and scores for each fold, and one for all of them."""
    cases = [str(row["case"]) for row in evaluation.rows]
    rows: list[dict[str, Any]] = []
    for fold in (*sorted({fold_of[case] for case in cases}), ALL):
        own = [case for case in cases if fold in (ALL, fold_of[case])]
        rows.append({"fold": str(fold), **score_row(evaluation, own)})
    return rows


def format_object_tables(
    table: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    failed: Sequence[FailedFold] = (),
) -> str:
    """Format all tables for people, with what they mean and the folds that failed."""
    parts: list[list[str]] = []
    if table:
        meaning = (
            "Objects of all cases of a fold together. Every case is predicted by the model that did not train "
            "on it, with thresholds of decoding that were chosen on the other folds. F1: at IoU 0.5."
        )
        parts.append([*_table("fold", table), "", meaning])
    if test:
        parts.append([*_table("model", test), "", "Test cases, on which nothing was trained or chosen."])
    return join_parts([*parts, *([note] for note in notes)], failed)


def write_object_results(study: Study, folds: Folds, results: ObjectResults) -> CrossValidationResult:
    """Write tables, summary and report; without scores, only what failed."""
    folder, evaluation = study.folder, results.evaluation
    table = [] if evaluation is None else object_fold_rows(evaluation, folds.fold_of)
    if evaluation is not None:
        rows = with_folds(evaluation.rows, folds.fold_of)
        write_table(folder.case_table, list(rows[0]), rows)
        write_table(folder.table, list(table[0]), table)
    model = folder.model if results.decoding is not None and folder.model.is_file() else None
    notes = _notes(results, has_model=model is not None)
    markdown = format_object_tables(table, results.test, notes, results.failed)
    write_text(folder.markdown, markdown)
    decoding = None if results.decoding is None else results.decoding.model_dump()
    summary: dict[str, Any] = {
        "folds": table, "decoding": decoding, "test": results.test, "notes": notes,
        "failed": [one.describe() for one in results.failed],
    }  # fmt: skip
    write_json(folder.summary, summary)
    report = None
    if evaluation is not None:
        report = str((folder.out_of_fold.metrics / REPORT_FILE).relative_to(folder.root))
    name = folder.root.resolve().name
    ObjectFoldsPage(name, summary, list_trainings(study, folds), report).build().write(folder.report)
    return CrossValidationResult(folder.root, table, markdown, model, results.failed)


def _notes(results: ObjectResults, *, has_model: bool) -> list[str]:
    notes = [] if results.decoding is None or has_model else [_NO_ENSEMBLE]
    failed = {} if results.evaluation is None else results.evaluation.failed
    return [*notes, *(f"{case} could not be compared: {reason}" for case, reason in failed.items())]


def _table(first: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    shown = [key for key in _SHOWN if key in rows[0]]
    counts = ("cases", "objects", "found")
    lines = table_head([first, *counts, *(SHORT_TITLES[key] for key in shown)])
    for row in rows:
        scores = ("–" if row[key] is None else f"{row[key]:.4f}" for key in shown)
        lines.append(table_line(row[first], *(row[key] for key in counts), *scores))
    return lines
