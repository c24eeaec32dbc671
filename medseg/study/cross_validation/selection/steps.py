"""Postprocessing steps chosen on out-of-fold predictions, and what they are worth on other cases."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.readers import read_scan
from medseg.data.scans import as_label_map
from medseg.inference.batch.provenance import read_record
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.postprocessing import PostprocessConfig
from medseg.inference.postprocessing_search import (
    CandidateStep,
    StepScores,
    candidate_steps,
    choose_steps,
    label_masks,
    score_steps,
)
from medseg.metrics.overlap import mean_defined
from medseg.progress import Progress, stage
from medseg.study.cross_validation.folder import Scored
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.predictions import reference_path


@dataclass(frozen=True)
class ChosenStep:
    """The step chosen for a label.

    Attributes:
        label: name of the label or region.
        step: the step, such as ``largest``; ``none`` if no step helps.
        before: mean Dice of the out-of-fold predictions without a step.
        after: mean Dice with the step, which was chosen on the same cases.
        unbiased: mean Dice if the step of each fold is chosen on the other folds.
    """

    label: str
    step: str
    before: float
    after: float
    unbiased: float


@dataclass(frozen=True)
class StepSelection:
    """The steps that are stored in the ensemble.

    Attributes:
        steps: the steps.
        rows: one per label.
    """

    steps: PostprocessConfig = field(default_factory=PostprocessConfig)
    rows: list[ChosenStep] = field(default_factory=list[ChosenStep])


def select_steps(folds: Folds, header: ModelHeader, scored: Scored, progress: Progress) -> StepSelection:
    """Try every postprocessing step on the out-of-fold predictions of each label.

    A step is chosen as by ``medseg tune``: it adds at least 0.001 to the mean Dice. It is stored if it also
    does not lower the Dice where the step of each fold is chosen on the other folds.

    Args:
        folds: the cases.
        header: of a model, for the labels.
        scored: predictions and references.
        progress: receives every case.
    """
    cases = [case for case in folds.dataset.cases if case.id in folds.fold_of]
    voxels = [float(np.prod(one.spacing)) for one in folds.dataset.statistics if one.id in folds.fold_of]
    steps = candidate_steps(float(np.median(voxels)))
    scores: dict[str, dict[str, list[float]]] = {}
    with stage(progress, len(cases), "choosing postprocessing") as shown:
        for case in cases:
            scores[case.id] = _score_case(case, header, scored, steps)
            shown.advance(case.id)
    _, chosen = choose_steps(_collect(scores, steps, scores.keys()))
    unbiased = _unbiased(scores, steps, folds)
    rows: list[ChosenStep] = []
    config = PostprocessConfig()
    by_name = {step.name: step for step in steps}
    for row in chosen:
        name = row.step if unbiased[row.label] >= row.before else "none"
        after = row.after if name != "none" else row.before
        rows.append(ChosenStep(row.label, name, row.before, after, unbiased[row.label]))
        config = by_name[name].add_to(config, row.label)
    return StepSelection(config, rows)


def _score_case(
    case: Case, header: ModelHeader, scored: Scored, steps: Sequence[CandidateStep]
) -> dict[str, list[float]]:
    """Return the Dice (one per step) of each label of a case."""
    record = read_record(scored.predictions, case.id)
    assert record is not None, case.id
    scan = read_scan(record.label_map)
    reference = as_label_map(read_scan(reference_path(scored.references, case)))
    masks = label_masks(as_label_map(scan), reference, header, case.id)
    return score_steps(masks, _voxel(scan.grid.spacing), steps)


def _voxel(spacing: Sequence[float]) -> float:
    return float(np.prod(spacing))


def _collect(
    scores: dict[str, dict[str, list[float]]], steps: Sequence[CandidateStep], cases: Collection[str]
) -> StepScores:
    """Return label → step → Dice of each of some cases."""
    labels = next(iter(scores.values()))
    return {
        label: {step: [scores[case][label][i] for case in cases] for i, step in enumerate(steps)}
        for label in labels
    }


def _unbiased(
    scores: dict[str, dict[str, list[float]]], steps: Sequence[CandidateStep], folds: Folds
) -> dict[str, float]:
    """Return the mean Dice of each label, with the step of each fold chosen on the other folds."""
    names = [step.name for step in steps]
    values: dict[str, list[float]] = {label: [] for label in next(iter(scores.values()))}
    for fold in sorted(set(folds.fold_of.values())):
        own = [case for case in scores if folds.fold_of[case] == fold]
        others = [case for case in scores if folds.fold_of[case] != fold]
        _, chosen = choose_steps(_collect(scores, steps, others))
        for row in chosen:
            values[row.label] += [scores[case][row.label][names.index(row.step)] for case in own]
    return {label: mean_defined(found) for label, found in values.items()}
