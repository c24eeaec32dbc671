"""The ensemble of the folds' models in one file, and its scores on the test cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.evaluation import Evaluation
from medseg.inference.model.ensemble.file import save_ensemble
from medseg.inference.model.model_file import LoadedModel, load_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.tta_search import with_flips
from medseg.metrics.tables.intervals import mean_interval
from medseg.metrics.tables.statistics import label_mean_influence, mean_defined
from medseg.progress import Progress, stage
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.predictions import evaluate, predict_cases, write_references
from medseg.study.cross_validation.settings import Study
from medseg.study.cross_validation.tables import dice_matrix, mean_dice


@dataclass(frozen=True)
class EnsembleScores:
    """Dice of the test cases, predicted by the ensemble and by each of its members.

    Attributes:
        ensemble: mean Dice of the ensemble, with its interval over cases.
        members: mean Dice of each member.
        gain: mean difference of the ensemble from the mean of its members, with its interval over cases.
        cases: number of cases.
        labels: label → mean Dice of the ensemble.
    """

    ensemble: tuple[float, float, float]
    members: tuple[float, ...]
    gain: tuple[float, float, float]
    cases: int
    labels: dict[str, float]

    @property
    def mean_of_members(self) -> float:
        """The mean of the members' mean Dice."""
        return float(np.mean(self.members))


def write_ensemble(study: Study, chosen: Mapping[str, Any], summary: dict[str, Any]) -> Path:
    """Write the models of all folds into one file, with the chosen settings of the inference.

    Args:
        study: the study.
        chosen: settings of ``inference`` that replace those of the models.
        summary: becomes part of the file.
    """
    models: list[LoadedModel] = []
    for number in range(study.request.folds):
        header, tensors, digest = load_model(study.folder.fold(number).run.model)
        inference = header.inference.model_copy(update=chosen)
        header = header.model_copy(update={"inference": inference})
        if "flips" in chosen:  # the first stage of a cascade had the same mirrors
            stages = tuple(with_flips(stage, chosen["flips"]) for stage in header.first_stages)
            header = header.model_copy(update={"first_stages": stages})
        models.append(LoadedModel(header, tensors, digest))
    save_ensemble(study.folder.model, models, summary | {"members": [model.digest for model in models]})
    return study.folder.model


def score_test_cases(study: Study, folds: Folds, progress: Progress) -> EnsembleScores | None:
    """Predict and evaluate the test cases with the ensemble and with each member; None without test cases."""
    cases = folds.test
    if not cases:
        return None
    train, scored = study.config.train, study.folder.test
    ensemble = Predictor(study.folder.model, device=train.device, amp=train.amp)
    write_references(cases, ensemble, scored.references)
    members: list[Evaluation] = []
    with stage(progress, len(ensemble.members) + 1, "predicting test cases", unit="models") as shown:
        for number, member in enumerate(ensemble.members):
            own = study.folder.test_of_member(number)
            predict_cases(
                Predictor(member, device=train.device, amp=train.amp), cases, own.predictions, progress
            )
            members.append(evaluate(own.predictions, scored.references, own.metrics, progress))
            shown.advance(f"fold {number}")
        predict_cases(ensemble, cases, scored.predictions, progress)
        evaluation = evaluate(scored.predictions, scored.references, scored.metrics, progress)
        shown.advance("ensemble")
    return compare_with_members(evaluation.rows, [one.rows for one in members])


def compare_with_members(
    ensemble: Sequence[dict[str, Any]], members: Sequence[Sequence[dict[str, Any]]]
) -> EnsembleScores:
    """Compare the Dice of an ensemble with the mean Dice of its members, paired by case.

    Args:
        ensemble: rows of ``cases.csv``.
        members: the same for each member.
    """
    dice, cases, labels = dice_matrix(ensemble)
    of_members = np.stack([dice_matrix(rows, cases, labels)[0] for rows in members])
    mean = mean_defined(of_members, axis=0)
    undefined = np.isnan(dice) & np.isnan(mean)
    # an undefined Dice is that of a prediction that is correctly empty
    difference = np.where(undefined, math.nan, np.nan_to_num(dice, nan=1.0) - np.nan_to_num(mean, nan=1.0))
    influence = label_mean_influence(difference)
    low, high = mean_interval(influence)
    gain = float(influence.mean()) if influence.size else math.nan
    label_means = mean_defined(dice, axis=0)
    return EnsembleScores(
        mean_dice(dice),
        tuple(mean_dice(one)[0] for one in of_members),
        (gain, float(low), float(high)),
        len(cases),
        {label: float(value) for label, value in zip(labels, label_means, strict=True)},
    )
