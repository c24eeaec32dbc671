"""Scores of a trained run on its own test cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from medseg.data.cases import Case, Part, join_problems
from medseg.data.io.multichannel import read_image
from medseg.data.io.readers import output_suffix, reader_for
from medseg.data.labels.schema import smallest_integer
from medseg.errors import DataError
from medseg.evaluation import EvaluationOptions
from medseg.evaluation.comparison import MethodScores, read_method
from medseg.files import write_atomic
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import run_cases
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.files import CaseOutcome
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.model.predictor import Predictor
from medseg.inference.model.protocols import AnySegmenter
from medseg.progress import Progress


def score_run(
    name: str, run: Path, folder: Path, part: Part, options: EvaluationOptions, progress: Progress
) -> MethodScores:
    """Predict the cases of one part of a run's split and evaluate them.

    Predictions of an earlier call with the same model are kept, those of another one are replaced.

    Args:
        name: name of the method.
        run: run folder.
        folder: folder of the method's ``predictions`` and ``references``.
        part: the part of the split.
        options: options of the evaluation.
        progress: receives each case.

    Raises:
        DataError: if the run has no case in this part, or a case has no label map.
    """
    predictor = Predictor(run)
    cases = run_cases(run, part)
    for case in cases:
        write_reference(case, predictor.header, folder / "references")
    predict_again(predictor, cases, folder / "predictions", progress)
    scores = read_method(name, folder / "predictions", folder / "references", options)
    images = {case.id: case.image for case in cases}
    files = {case: dataclasses.replace(own, image=images.get(case)) for case, own in scores.files.items()}
    requested = frozenset(images)
    return dataclasses.replace(scores, requested=requested, source=run.name, files=files)


def predict_again(
    predictor: AnySegmenter, cases: Sequence[Case], folder: Path, progress: Progress
) -> list[CaseOutcome]:
    """Predict cases; results of the same model are kept, those of another one are replaced.

    Args:
        predictor: the model.
        cases: the cases.
        folder: of the label maps.
        progress: receives every case.

    Returns:
        The outcomes, also of cases that failed.
    """
    outcomes = infer_cases(predictor, cases, folder, progress=progress)
    kept = {outcome.case for outcome in outcomes if outcome.status == "kept"}
    if kept:
        stale = [case for case in cases if case.id in kept]
        outcomes = [outcome for outcome in outcomes if outcome.case not in kept]
        outcomes += infer_cases(predictor, stale, folder, BatchOptions(overwrite=True), progress=progress)
    return outcomes


def check_predicted(outcomes: Sequence[CaseOutcome], folder: Path) -> None:
    """Check that all cases were predicted.

    Raises:
        DataError: that lists the cases that failed.
    """
    failed = [f"{outcome.case}: {outcome.error}" for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise DataError(join_problems(f"{folder}: cases that could not be predicted", failed), path=folder)


def write_reference(case: Case, header: ModelHeader, folder: Path) -> None:
    """Write the label map of a case as the network's labels define it, whatever the layout of the dataset.

    A file of an earlier call is replaced, because labels may have been corrected since.
    """
    path = folder / f"{case.id}{output_suffix(case.image)}"
    scan = read_image(case)
    target = header.label_reader.read(case, scan)
    if target is None:
        raise DataError(f"case {case.id}: no label map to compare the prediction with", case=case.id)
    values = target.values
    values = values.astype(smallest_integer((int(values.min()), int(values.max()))))
    with write_atomic(path) as temporary:
        reader_for(case.image).write_label_map(temporary, values, scan, None)
