"""Comparison of folders of label maps with references: scores and status of every case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medseg.evaluation.case_comparison import CaseComparer
from medseg.evaluation.collector import ScoreCollector
from medseg.evaluation.evaluation import CaseFiles, Evaluation
from medseg.evaluation.labels import resolve_labels, warn_about_absent_values
from medseg.evaluation.options import DEFAULT_OPTIONS, EvaluationOptions
from medseg.evaluation.output import TABLES, write_tables
from medseg.evaluation.pairing import Pairing, Suffixes, find_images, pair_cases
from medseg.evaluation.parallel_cases import CaseTask, compare_cases
from medseg.evaluation.predictions import check_missing
from medseg.progress import QUIET, Progress


def evaluate_cases(
    predictions: Path | str,
    references: Path | str,
    output: Path | str | None = None,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    *,
    progress: Progress = QUIET,
) -> Evaluation:
    """Compare label maps with references that have the same name.

    Cases are compared in parallel. A case that cannot be compared (unreadable file, other grid, values without
    a name) is listed as failed, and the evaluation continues. ``options.missing`` decides about cases without a
    prediction, ``options.misses`` about structures that a prediction lacks.

    Args:
        predictions: folder of label maps, or one file. ``medseg.json`` in the folder names the labels,
            ``requested.json`` lists the cases that were to be predicted.
        references: folder of reference label maps, searched recursively, or one file.
        output: folder for the tables: ``cases.csv``, ``scores.csv``, ``summary.json``, ``table.md``,
            ``table.tex``, and Parquet files where pyarrow is installed. If None, no file is written. All tables
            of an earlier evaluation are replaced, once there are new ones: after an error they are as before.
        options: labels, missing cases and structures, tolerance.
        progress: advances with each case.

    Raises:
        DataError: if a path does not exist, a prediction has no reference (with ``extra="error"``), cases are
            missing (with ``missing="error"``), or no case can be scored.
        ConfigError: if the labels cannot be guessed, a tolerance belongs to no label, every prediction is the
            same file as its reference, or ``output`` is a file.
        ExistingFileError: if ``output`` contains other tables.

    Example:
        >>> evaluation = evaluate_cases("predictions", "labels", "metrics")  # doctest: +SKIP
        >>> evaluation.summary["overall"]["mean_dice"]["mean"]  # doctest: +SKIP
        0.91
    """
    folder = None if output is None else Path(output)
    with TABLES.replacing(folder):
        evaluation = _evaluate(Path(predictions), Path(references), options, progress)
    if folder is not None:
        write_tables(folder, evaluation)
    return evaluation


def _evaluate(
    predictions: Path, references: Path, options: EvaluationOptions, progress: Progress
) -> Evaluation:
    """Compare the cases; see ``evaluate_cases``."""
    suffixes = Suffixes(options.label_suffix, options.prediction_suffix)
    pairing = pair_cases(predictions, references, suffixes, options.extra)
    reasons = {case: missing.reason for case, missing in pairing.missing.items()}
    total = f"{pairing.references} references"
    if pairing.requested is not None:
        total = f"{pairing.requested} requested cases"
    check_missing(options.missing, reasons, total, worst="Dice 0, infinite distances")
    tasks = _tasks(pairing)
    folder = predictions if predictions.is_dir() else predictions.parent
    predicted = [task.prediction for task in tasks if task.prediction is not None]
    labels = resolve_labels(options, folder, [task.reference for task in tasks], predicted)
    comparer = CaseComparer(labels, options, folder)
    comparer.check()
    collector = ScoreCollector(comparer)
    for task, outcome in zip(tasks, compare_cases(tasks, comparer, options.jobs, progress), strict=True):
        collector.add(task, outcome)
    counts = sum((one.counts for one in collector.comparisons.values()), np.zeros(1 + len(labels.names), int))
    warn_about_absent_values(options, labels, counts, [*predicted, *(task.reference for task in tasks)])
    sources = {"sources": {"predictions": predictions.name, "references": references.name}}
    summary = collector.summary(pairing) | sources
    return Evaluation(collector.rows(), summary, labels, _files(tasks, options))


def _tasks(pairing: Pairing) -> list[CaseTask]:
    tasks = [CaseTask(case, reference, prediction) for case, (prediction, reference) in pairing.pairs.items()]
    tasks += [
        CaseTask(case, missing.reference, reason=missing.reason) for case, missing in pairing.missing.items()
    ]
    return sorted(tasks, key=lambda task: task.case)


def _files(tasks: list[CaseTask], options: EvaluationOptions) -> dict[str, CaseFiles]:
    images: Mapping[str, Path] = {}
    if options.images is not None:
        images = find_images(options.images, [task.case for task in tasks], options.label_suffix)
    return {task.case: CaseFiles(task.reference, task.prediction, images.get(task.case)) for task in tasks}
