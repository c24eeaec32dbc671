"""Thresholds and postprocessing steps chosen on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.readers import read_scan
from medseg.data.scans import as_label_map
from medseg.inference.batch.outputs.provenance import read_record
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.postprocessing import PostprocessConfig
from medseg.inference.postprocessing_search import (
    CandidateStep,
    Masks,
    candidate_steps,
    label_masks,
    predicted_names,
    score_steps,
)
from medseg.metrics.overlap import count_overlap, dice
from medseg.progress import Progress, stage
from medseg.study.cross_validation.folder import Scored
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.predictions import reference_path
from medseg.study.cross_validation.selection.choice import Choice, choose_candidate
from medseg.study.cross_validation.selection.probabilities import LEVELS, read_levels, stored_file

THRESHOLDS = (0.5, *(n / 20 for n in range(6, 15) if n != 10))
"""Thresholds that are tried: 0.5, then 0.3 to 0.7.

They are chosen on probabilities of single models and used for the mean of several, which is less extreme.
"""


@dataclass(frozen=True)
class ChosenSetting:
    """A threshold or a step for a label.

    Attributes:
        label: name of the label or region.
        setting: the setting, such as ``largest`` or ``threshold 0.35``; ``none`` if no candidate helps.
        before: mean Dice of the out-of-fold predictions without it.
        after: mean Dice with the setting, which was chosen on the same cases.
        unbiased: mean Dice if the setting of each fold is chosen on the other folds.
    """

    label: str
    setting: str
    before: float
    after: float
    unbiased: float


@dataclass(frozen=True)
class Selection:
    """What is stored in the ensemble.

    Attributes:
        thresholds: label → threshold, where it is not 0.5.
        steps: postprocessing.
        rows: one per label for the thresholds, if there are any to choose, and one for the steps.
        tta: settings of test-time augmentation.
    """

    thresholds: dict[str, float] = field(default_factory=dict[str, float])
    steps: PostprocessConfig = field(default_factory=PostprocessConfig)
    rows: list[ChosenSetting] = field(default_factory=list[ChosenSetting])
    tta: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def inference(self) -> dict[str, Any]:
        """Settings of ``inference`` that it changes."""
        changes = dict(self.tta)
        if self.thresholds:
            changes["thresholds"] = self.thresholds
        return changes | ({"postprocess": self.steps} if self.steps.names else {})


@dataclass(frozen=True)
class SettingSelector:
    """Chooses settings of the inference on out-of-fold predictions.

    Attributes:
        folds: the cases.
        header: of a model, for the labels.
        scored: predictions, references and stored probabilities.
        progress: receives every case.
    """

    folds: Folds
    header: ModelHeader
    scored: Scored
    progress: Progress

    def select(self) -> Selection:
        """Choose a threshold for each label that can have one, and then a step for each label."""
        thresholds, rows = self._thresholds()
        steps, more = self._steps(thresholds)
        return Selection(thresholds, steps, rows + more)

    @property
    def _cases(self) -> list[Case]:
        return [case for case in self.folds.dataset.cases if case.id in self.folds.fold_of]

    @property
    def _voxel(self) -> float:
        """Median volume of a voxel in mm³; pixels for pictures."""
        facts = self.folds.dataset.statistics
        return float(np.median([np.prod(one.spacing) for one in facts if one.id in self.folds.fold_of]))

    def _thresholds(self) -> tuple[dict[str, float], list[ChosenSetting]]:
        files = [stored_file(self.scored.probabilities, case.id) for case in self._cases]
        if not self.header.thresholded or not all(file.is_file() for file in files):
            return {}, []
        choices = self._choose("choosing thresholds", self._score_thresholds)
        found = {label: THRESHOLDS[one.index] for label, one in choices.items() if one.index}
        names = {label: f"threshold {value:g}" for label, value in found.items()}
        return found, _rows(choices, names)

    def _steps(self, thresholds: dict[str, float]) -> tuple[PostprocessConfig, list[ChosenSetting]]:
        steps = candidate_steps(self._voxel)
        choices = self._choose(
            "choosing postprocessing", lambda case: self._score_steps(case, thresholds, steps)
        )
        config = PostprocessConfig()
        for label, one in choices.items():
            config = steps[one.index].add_to(config, label)
        names = {label: steps[one.index].name for label, one in choices.items()}
        return config, _rows(choices, names)

    def _choose(self, title: str, score: Callable[[Case], dict[str, list[float]]]) -> dict[str, Choice]:
        """Choose a candidate for each label by the scores of all cases."""
        scores: dict[str, list[list[float]]] = {}
        with stage(self.progress, len(self._cases), title) as shown:
            for case in self._cases:
                for label, values in score(case).items():
                    scores.setdefault(label, []).append(values)
                shown.advance(case.id)
        folds = np.array([self.folds.fold_of[case.id] for case in self._cases])
        return {label: choose_candidate(np.array(values), folds) for label, values in scores.items()}

    def _score_thresholds(self, case: Case) -> dict[str, list[float]]:
        masks, levels = self._masks(case)[0], self._levels(case)
        return {
            label: [dice(count_overlap(masks[label][1], own >= round(t * LEVELS))) for t in THRESHOLDS]
            for label, own in levels.items()
        }

    def _score_steps(
        self, case: Case, thresholds: dict[str, float], steps: Sequence[CandidateStep]
    ) -> dict[str, list[float]]:
        masks, voxel = self._masks(case)
        levels = self._levels(case) if thresholds else {}
        for label, threshold in thresholds.items():
            masks[label] = (levels[label] >= round(threshold * LEVELS), masks[label][1])
        return score_steps(masks, voxel, steps)

    def _masks(self, case: Case) -> tuple[Masks, float]:
        """Return prediction and reference of each label of a case, and the volume of a voxel."""
        record = read_record(self.scored.predictions, case.id)
        assert record is not None, case.id
        scan = read_scan(record.label_map)
        reference = as_label_map(read_scan(reference_path(self.scored.references, case)))
        masks = label_masks(as_label_map(scan), reference, self.header, case.id)
        return masks, float(np.prod(scan.grid.spacing))

    def _levels(self, case: Case) -> dict[str, Any]:
        levels = read_levels(stored_file(self.scored.probabilities, case.id))
        named = dict(zip(self.header.thresholded, levels, strict=True))
        return {label: named[label] for label in predicted_names(self.header) if label in named}


def _rows(choices: dict[str, Choice], names: dict[str, str]) -> list[ChosenSetting]:
    return [
        ChosenSetting(label, names.get(label, "none"), one.before, one.after, one.unbiased)
        for label, one in choices.items()
    ]
