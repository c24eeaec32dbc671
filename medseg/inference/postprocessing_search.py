"""Choose postprocessing steps on the validation cases of a run and store them in its model file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.geometry import Array
from medseg.inference.batch.input_discovery import run_cases
from medseg.inference.model.ensemble.member import OwnNetwork
from medseg.inference.model.model_file import ModelHeader, find_model_file, load_model, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.postprocessing import PostprocessConfig
from medseg.metrics.overlap import count_overlap, dice, mean_defined
from medseg.progress import Progress, QuietProgress, stage

Masks = dict[str, tuple[Array, Array]]
"""Label or region → masks (*S) of prediction and reference."""

LEAST_GAIN = 0.001
"""Minimum increase of the mean Dice for a step to be chosen."""

_SIZES = (8, 27, 64, 125, 343, 1000, 2744, 8000)  # minimum component sizes that are tried, in voxels


@dataclass(frozen=True)
class CandidateStep:
    """A step that may be applied to a label; by default, no step.

    Attributes:
        largest: whether to keep only the largest component.
        fill: whether to fill holes.
        smallest: minimum component size, mm³ (pixels for pictures); None to keep all sizes.
    """

    largest: bool = False
    fill: bool = False
    smallest: float | None = None

    @property
    def name(self) -> str:
        """The step in words, such as ``largest and fill`` or ``smallest 64``; ``none`` for no step."""
        parts = ["largest"] * self.largest + ["fill"] * self.fill
        parts += [] if self.smallest is None else [f"smallest {self.smallest:g}"]
        return " and ".join(parts) or "none"

    def add_to(self, config: PostprocessConfig, label: str) -> PostprocessConfig:
        """Return the configuration with this step for a label."""
        changes: dict[str, object] = {}
        if self.largest:
            changes["largest"] = (*config.largest, label)
        if self.fill:
            changes["fill"] = (*config.fill, label)
        if self.smallest is not None:
            changes["smallest"] = {**config.smallest, label: self.smallest}
        return config.model_copy(update=changes)


@dataclass(frozen=True)
class StepChoice:
    """The step chosen for one label.

    The mean Dice excludes cases in which neither reference nor prediction contain the label, as in
    ``medseg evaluate``.

    Attributes:
        label: name of the label or region.
        step: the step, such as ``largest`` or ``smallest 64`` (mm³); ``none`` if no step helps.
        before: mean Dice over the validation cases without the step.
        after: mean Dice with the step.
    """

    label: str
    step: str
    before: float
    after: float


StepScores = dict[str, dict[CandidateStep, list[float]]]
"""Label → step → Dice of each case."""


def tune_postprocessing(
    run: Path, *, model: OwnNetwork | None = None, device: str = "auto", progress: Progress | None = None
) -> tuple[PostprocessConfig, list[StepChoice]]:
    """Try every step on every label of the validation cases and store the best steps in the model file.

    Args:
        run: run folder.
        model: the network, or the function that builds it, of a training with a network of your own.
        device: device of the predictions, such as ``cuda:0``. Default: ``auto``.
        progress: receives the progress over the cases. Default: none is shown.

    Returns:
        The chosen steps, and one ``StepChoice`` per label.

    Raises:
        DataError: the run has no labeled validation cases.
    """
    path = find_model_file(Path(run))
    predictor = Predictor(path, model=model, device=device, settings={"postprocess": {}})
    cases = run_cases(Path(run), "val")
    with stage(progress or QuietProgress(), len(cases), "predicting validation cases") as shown:
        scores = _score_steps(predictor, cases, shown)
    chosen, rows = choose_steps(scores)
    header, tensors, _ = load_model(path)
    inference = header.inference.model_copy(update={"postprocess": chosen})
    save_model(path, header.model_copy(update={"inference": inference}), tensors)
    return chosen, rows


def choose_steps(scores: StepScores) -> tuple[PostprocessConfig, list[StepChoice]]:
    """Choose the best step for each label.

    Args:
        scores: label → step → Dice of each case.

    Returns:
        The steps, and one ``StepChoice`` per label.
    """
    chosen = PostprocessConfig()
    rows: list[StepChoice] = []
    for name, scores_by_step in scores.items():
        steps = {step.name: step for step in scores_by_step}
        means = {step.name: mean_defined(values) for step, values in scores_by_step.items()}
        best = _best(means)
        rows.append(StepChoice(name, best, means["none"], means[best]))
        chosen = steps[best].add_to(chosen, name)
    return chosen, rows


def score_steps(masks: Masks, voxel: float, steps: Sequence[CandidateStep]) -> dict[str, list[float]]:
    """Return the Dice of each label of a case after each step.

    Args:
        masks: label → prediction and reference (*S).
        voxel: volume of a voxel in mm³; 1 for 2D images.
        steps: the steps.
    """
    return {
        name: [
            dice(count_overlap(reference, step.add_to(PostprocessConfig(), name).of_mask(mask, name, voxel)))
            for step in steps
        ]
        for name, (mask, reference) in masks.items()
    }


def _score_steps(predictor: Predictor, cases: list[Case], progress: Progress) -> StepScores:
    """Return the Dice of each case by label and step."""
    scores: StepScores = {name: {} for name in predicted_names(predictor.header)}
    for case in cases:
        prediction = predictor.predict(case)
        masks = prediction_and_reference(case, prediction.scan, prediction.label_map, predictor.header)
        voxel = float(np.prod(prediction.scan.grid.spacing))
        steps = candidate_steps(voxel)
        for name, values in score_steps(masks, voxel, steps).items():
            for step, value in zip(steps, values, strict=True):
                scores[name].setdefault(step, []).append(value)
        progress.advance(case.id)
    return scores


def predicted_names(header: ModelHeader) -> list[str]:
    """Return the names of the labels or regions that a model is evaluated by."""
    labels = header.labels
    return list(labels.class_names[0 if labels.regions else labels.first_evaluated :])


def prediction_and_reference(case: Case, scan: Scan, label_map: Array, header: ModelHeader) -> Masks:
    """Return prediction and reference masks of each label or region; unlabeled voxels are excluded."""
    target = header.label_reader.read(case, scan)
    if target is None:
        raise DataError(f"case {case.id}: no label map to compare the prediction with", case=case.id)
    return label_masks(label_map, target.values, header, case.id)


def label_masks(label_map: Array, reference: Array, header: ModelHeader, case: str) -> Masks:
    """Return prediction and reference masks of each label or region; unlabeled voxels are excluded.

    Args:
        label_map: (*S) predicted label values.
        reference: (*S) label values of the reference.
        header: of the model.
        case: id of the case, for messages.
    """
    labels = header.labels
    encoded = [labels.encode(values, f"case {case}").astype(np.int64) for values in (label_map, reference)]
    labeled = encoded[1] > 0
    pairs: Masks = {}
    for name in predicted_names(header):
        members = labels.regions.get(name, (name,))
        indices = [list(labels.names).index(member) + 1 for member in members]
        predicted, reference = (np.isin(one, indices) & labeled for one in encoded)
        pairs[name] = (predicted, reference)
    return pairs


def candidate_steps(voxel: float) -> list[CandidateStep]:
    """Return the steps to try, for voxels of a given size (mm³; 1 for pictures)."""
    steps = [
        CandidateStep(),
        CandidateStep(largest=True),
        CandidateStep(fill=True),
        CandidateStep(largest=True, fill=True),
    ]
    return steps + [CandidateStep(smallest=float(f"{size * voxel:.2g}")) for size in _SIZES]


def _best(means: dict[str, float]) -> str:
    """Return the step with the highest mean Dice; ``none`` if all are NaN or it adds less than LEAST_GAIN."""
    best = max(means, key=lambda step: (-math.inf if math.isnan(means[step]) else means[step], step == "none"))
    return best if means[best] - means["none"] >= LEAST_GAIN else "none"
