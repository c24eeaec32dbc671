"""Predicted objects of held-out and test cases, compared with the references of the dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.data.cases import Case
from medseg.evaluation.objects import ObjectEvaluation, compare_objects
from medseg.evaluation.objects.pairing import PairedObjects
from medseg.evaluation.objects.references import DatasetReferences
from medseg.inference.batch.outputs.provenance import read_record
from medseg.inference.model.predictor import Predictor
from medseg.instances.options import InstanceDecoding
from medseg.progress import Progress, stage
from medseg.study.cross_validation.folder import Scored
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.predictions import load_fold, predict_cases
from medseg.study.cross_validation.settings import Study

_COUNTS = {"objects": "reference", "predicted": "predicted", "found": "found"}


def compare_cases(
    folds: Folds, cases: Sequence[Case], scored: Scored, title: str, progress: Progress
) -> ObjectEvaluation:
    """Compare the predictions of cases with the objects that the network's labels define.

    Args:
        folds: with the dataset.
        cases: the cases.
        scored: folder of the predictions, and of the tables.
        title: name of the predictions in the report.
        progress: receives every case.
    """
    dataset = folds.dataset
    references = DatasetReferences({case.id: case for case in cases}, dataset.label_reader, dataset.labels)
    files: dict[str, Path | None] = {}
    for case in cases:
        record = read_record(scored.predictions, case.id)
        files[case.id] = None if record is None else record.label_map
    missing = {case: "it was not predicted" for case, file in files.items() if file is None}
    paired = PairedObjects(scored.predictions, files, references, missing)
    return compare_objects(paired, scored.metrics, names=(title, "the dataset"), progress=progress)


def score_row(evaluation: ObjectEvaluation, cases: Sequence[str]) -> dict[str, Any]:
    """Return the number of cases, the counts of their objects, and the scores of all of them together."""
    chosen = set(cases)
    rows = [row for row in evaluation.rows if row["case"] in chosen]
    counts = {name: sum(int(row[key]) for row in rows) for name, key in _COUNTS.items()}
    return {"cases": len(rows), **counts, **evaluation.scores_of(cases)}


def score_test_objects(
    study: Study, folds: Folds, decoding: InstanceDecoding, progress: Progress
) -> list[dict[str, Any]]:
    """Predict and score the test cases with the model of each fold, and with the ensemble if there is one.

    Args:
        study: the study; all of its folds are trained.
        folds: the cases.
        decoding: thresholds, on which the test cases had no influence.
        progress: receives every model.

    Returns:
        One row for each model; empty without test cases.
    """
    cases = folds.test
    if not cases:
        return []
    numbers, has_ensemble = range(study.request.folds), study.folder.model.is_file()
    rows: list[dict[str, Any]] = []

    def score(name: str, predictor: Predictor, scored: Scored) -> None:
        predict_cases(predictor, cases, scored.predictions, progress)
        evaluation = compare_cases(folds, cases, scored, f"{name}, test cases", progress)
        rows.append({"model": name, **score_row(evaluation, [case.id for case in cases])})

    with stage(progress, len(numbers) + has_ensemble, "predicting test cases", unit="models") as shown:
        for number in numbers:
            fold = study.folder.fold(number)
            member = load_fold(study, fold, instances=decoding.model_dump())
            score(fold.name, member, study.folder.test_of_member(number))
            shown.advance(fold.name)
        if has_ensemble:
            train = study.config.train
            ensemble = Predictor(study.folder.model, device=train.device, amp=train.amp)
            score("ensemble", ensemble, study.folder.test)
            shown.advance("ensemble")
    return rows
