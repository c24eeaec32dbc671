"""Choose the steps on components by what they do to a run's validation cases, and record them in its model."""

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
"""Mean Dice a step must add to be taken."""

_SIZES = (8, 27, 64, 125, 343, 1000, 2744, 8000)  # voxels of the smallest component that is kept


@dataclass(frozen=True)
class Tuned:
    """What was chosen for one label: the mean Dice over the validation cases without and with it.

    Cases that neither hold the label nor are predicted to have no Dice, as in ``medseg evaluate``.
    """

    label: str
    step: str
    before: float
    after: float


def tune(
    run: Path, *, device: str = "auto", report: Callable[[str], None] = lambda line: None
) -> tuple[PostprocessConfig, list[Tuned]]:
    """Try every step on every label of the validation cases; those that help are written into the model file.

    Raises: DataError if the run has no labeled validation cases.
    """
    path = find_model_file(Path(run))
    predictor = Predictor(path, device=device, settings={"postprocess": {}})
    names = _names(predictor.header)
    found_dice: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for case in run_cases(Path(run), "val"):
        prediction = predictor.predict(case)
        pairs = _masks(case, prediction.scan, prediction.label_map, predictor.header)
        voxel = float(np.prod(prediction.scan.grid.spacing))
        for name, (found, reference) in pairs.items():
            for step, config in _steps(name, voxel).items():
                score = dice(count_overlap(reference, config.of_mask(found, name, voxel)))
                found_dice[name].setdefault(step, []).append(score)
        report(case.id)
    chosen, rows = PostprocessConfig(), []
    for name in names:
        means = {step: mean_defined(scores) for step, scores in found_dice[name].items()}
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
    """Prediction and reference of every label or region, without the voxels nobody labeled."""
    target = header.label_reader.read(case, scan)
    if target is None:
        raise DataError(f"case {case.id}: has no label map to compare with")
    labels = header.labels
    codes = [labels.encode(values, f"case {case.id}").astype(np.int64) for values in (label_map, target.values)]
    known = codes[1] > 0
    pairs: dict[str, tuple[Array, Array]] = {}
    for name in _names(header):
        members = labels.regions.get(name, (name,))
        indices = [list(labels.names).index(member) + 1 for member in members]
        found, reference = (np.isin(one, indices) & known for one in codes)
        pairs[name] = (found, reference)
    return pairs


def _steps(name: str, voxel: float) -> dict[str, PostprocessConfig]:
    """The steps that are tried, by what they are called."""
    known = ["none", "largest", "fill", "largest and fill"]
    known += [f"smallest {float(f'{size * voxel:.2g}'):g}" for size in _SIZES]
    return {step: _with(PostprocessConfig(), name, step) for step in known}


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
    """The step of the highest mean Dice, if it adds enough; a label without any Dice takes none."""
    best = max(means, key=lambda step: (-math.inf if math.isnan(means[step]) else means[step], step == "none"))
    return best if means[best] - means["none"] >= LEAST_GAIN else "none"
