"""Choose postprocessing steps on the validation cases of a run and store them in its model file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.geometry import Array
from medseg.inference.batch.input_discovery import run_cases
from medseg.inference.model.model_file import ModelHeader, find_model_file, load_model, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.postprocessing import PostprocessConfig
from medseg.metrics.overlap import count_overlap, dice, mean_defined

LEAST_GAIN = 0.001
"""Minimum increase of the mean Dice for a step to be chosen."""

_SIZES = (8, 27, 64, 125, 343, 1000, 2744, 8000)  # minimum component sizes that are tried, in voxels


@dataclass(frozen=True)
class Tuned:
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


def tune(
    run: Path, *, device: str = "auto", report: Callable[[str], None] = lambda line: None
) -> tuple[PostprocessConfig, list[Tuned]]:
    """Try every step on every label of the validation cases and store the best steps in the model file.

    Args:
        run: run folder.
        device: device of the predictions, such as ``cuda:0``. Default: ``auto``.
        report: receives the id of each case that is finished.

    Returns:
        The chosen steps, and one ``Tuned`` per label.

    Raises:
        DataError: the run has no labeled validation cases.
    """
    path = find_model_file(Path(run))
    predictor = Predictor(path, device=device, settings={"postprocess": {}})
    names = _names(predictor.header)
    scores: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for case in run_cases(Path(run), "val"):
        prediction = predictor.predict(case)
        pairs = _masks(case, prediction.scan, prediction.label_map, predictor.header)
        voxel = float(np.prod(prediction.scan.grid.spacing))
        for name, (predicted, reference) in pairs.items():
            for step, config in _steps(name, voxel).items():
                score = dice(count_overlap(reference, config.of_mask(predicted, name, voxel)))
                scores[name].setdefault(step, []).append(score)
        report(case.id)
    chosen, rows = PostprocessConfig(), []
    for name in names:
        means = {step: mean_defined(values) for step, values in scores[name].items()}
        step = _best(means)
        rows.append(Tuned(name, step, means["none"], means[step]))
        chosen = _with(chosen, name, step)
    header, tensors, _ = load_model(path)
    inference = header.inference.model_copy(update={"postprocess": chosen})
    save_model(path, header.model_copy(update={"inference": inference}), tensors)
    return chosen, rows


def _names(header: ModelHeader) -> list[str]:
    labels = header.labels
    return list(labels.class_names[0 if labels.regions else labels.first_evaluated :])


def _masks(case: Case, scan: Scan, label_map: Array, header: ModelHeader) -> dict[str, tuple[Array, Array]]:
    """Return prediction and reference masks of each label or region; unlabeled voxels are excluded."""
    target = header.label_reader.read(case, scan)
    if target is None:
        raise DataError(f"case {case.id}: no label map to compare the prediction with", case=case.id)
    labels = header.labels
    encoded = [
        labels.encode(values, f"case {case.id}").astype(np.int64) for values in (label_map, target.values)
    ]
    labeled = encoded[1] > 0
    pairs: dict[str, tuple[Array, Array]] = {}
    for name in _names(header):
        members = labels.regions.get(name, (name,))
        indices = [list(labels.names).index(member) + 1 for member in members]
        predicted, reference = (np.isin(one, indices) & labeled for one in encoded)
        pairs[name] = (predicted, reference)
    return pairs


def _steps(name: str, voxel: float) -> dict[str, PostprocessConfig]:
    """Return the candidate steps of a label by name."""
    steps = ["none", "largest", "fill", "largest and fill"]
    steps += [f"smallest {float(f'{size * voxel:.2g}'):g}" for size in _SIZES]
    return {step: _with(PostprocessConfig(), name, step) for step in steps}


def _with(config: PostprocessConfig, name: str, step: str) -> PostprocessConfig:
    changes: dict[str, object] = {}
    if "largest" in step:
        changes["largest"] = (*config.largest, name)
    if "fill" in step:
        changes["fill"] = (*config.fill, name)
    if step.startswith("smallest"):
        changes["smallest"] = {**config.smallest, name: float(step.split()[1])}
    return config.model_copy(update=changes)


def _best(means: dict[str, float]) -> str:
    """Return the step with the highest mean Dice; ``none`` if all are NaN or it adds less than LEAST_GAIN."""
    best = max(means, key=lambda step: (-math.inf if math.isnan(means[step]) else means[step], step == "none"))
    return best if means[best] - means["none"] >= LEAST_GAIN else "none"
