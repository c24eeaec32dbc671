"""What a cross-validation writes at its end: tables, summary and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from medseg.evaluation import Evaluation
from medseg.evaluation.evaluation import CaseFiles
from medseg.evaluation.output import REPORT_FILE
from medseg.files import write_json, write_text
from medseg.metrics import to_json, write_csv
from medseg.report.pages.cross_validation import CrossValidationPage, write_cross_validation_page
from medseg.study.cross_validation.ensemble import EnsembleScores
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.options import CrossValidationResult, FailedFold
from medseg.study.cross_validation.selection.steps import Selection
from medseg.study.cross_validation.settings import Study
from medseg.study.cross_validation.tables import fold_rows, format_markdown
from medseg.training.run_folder.log import read_log


@dataclass(frozen=True)
class Results:
    """Everything that a cross-validation found.

    Attributes:
        rows: scores of the out-of-fold predictions, as in ``cases.csv``.
        selection: chosen settings of the inference.
        test: scores of the test cases; None without an ensemble or test cases.
        failed: the folds that failed.
    """

    rows: Sequence[Mapping[str, Any]] = ()
    selection: Selection = field(default_factory=Selection)
    test: EnsembleScores | None = None
    failed: list[FailedFold] = field(default_factory=list[FailedFold])


def write_results(study: Study, folds: Folds, results: Results) -> CrossValidationResult:
    """Write tables, summary and report; without scores, only what failed."""
    folder, rows = study.folder, results.rows
    table = fold_rows(rows, folds.fold_of) if rows else []
    if rows:
        write_csv(folder.case_table, rows)
        write_csv(folder.table, table)
    markdown = format_markdown(
        table, results.selection.rows, results.test, results.failed, tta=bool(results.selection.tta)
    )
    write_text(folder.markdown, markdown)
    summary: dict[str, Any] = {
        "folds": table,
        "settings": [asdict(row) for row in results.selection.rows],
        "tta": results.selection.tta,
        "test": None if results.test is None else asdict(results.test),
        "failed": [one.describe() for one in results.failed],
    }
    write_json(folder.summary, to_json(summary))
    evaluation = folder.out_of_fold.metrics / REPORT_FILE
    page = CrossValidationPage(
        folder.root.resolve().name, rows, summary, list_trainings(study, folds),
        str(evaluation.relative_to(folder.root)) if rows else None,
    )  # fmt: skip
    write_cross_validation_page(folder.report, page)
    model = folder.model if folder.model.is_file() and not results.failed else None
    return CrossValidationResult(folder.root, table, markdown, model, results.failed)


def with_images(evaluation: Evaluation, folds: Folds) -> Evaluation:
    """Add the images to the files of an evaluation, for its report."""
    images = {case.id: case.image for case in folds.dataset.cases}
    files = {
        case: CaseFiles(own.reference, own.prediction, images.get(case))
        for case, own in evaluation.files.items()
    }
    return replace(evaluation, files=files)


def list_trainings(study: Study, folds: Folds) -> list[dict[str, Any]]:
    """Return the time, the cases and the report of the training of each fold that has begun."""
    trainings: list[dict[str, Any]] = []
    for number in range(study.request.folds):
        run = study.folder.fold(number).run
        if run.log.is_file():
            minutes = sum(float(entry["seconds"]) for entry in read_log(run.log)) / 60
            cases = list(folds.split(number).values()).count("train")
            report = str(run.report.relative_to(study.folder.root))
            trainings.append({"fold": number, "minutes": minutes, "cases": cases, "report": report})
    return trainings
