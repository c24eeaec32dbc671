"""The report of an evaluation, ``report.html``, with pictures of the worst cases."""

from __future__ import annotations

from pathlib import Path

from medseg.evaluation.evaluation import Evaluation
from medseg.report.pages.case_sections import DEFAULT_LIMITS, CaseFiles, DrawingLimits, draw_case_sections
from medseg.report.pages.evaluation import write_evaluation_page
from medseg.report.pages.scored_cases import ScoredCases

REPORT_FILE = "report.html"


def write_evaluation_report(
    path: Path | str, evaluation: Evaluation, limits: DrawingLimits = DEFAULT_LIMITS
) -> None:
    """Write the report of an evaluation: verdict, tables, plots, and pictures of the worst cases.

    Args:
        path: file to write, ``.html``.
        evaluation: result of ``evaluate_cases``.
        limits: number and sizes of the pictures.

    Raises:
        ExistingFileError: if the file exists and is not a page of medseg.

    Example:
        >>> evaluation = evaluate_cases("predictions", "labels")  # doctest: +SKIP
        >>> write_evaluation_report("report.html", evaluation)  # doctest: +SKIP
    """
    worst = ScoredCases(evaluation.rows).worst_cases(limits.figures)
    files = {
        case: CaseFiles(image=own.image, reference=own.reference, prediction=own.prediction)
        for case in worst
        if (own := evaluation.files.get(case)) is not None and own.prediction is not None
    }
    sections = draw_case_sections(files, evaluation.labels, limits)
    write_evaluation_page(Path(path), evaluation.rows, evaluation.summary, sections)
