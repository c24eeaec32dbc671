"""Settings are chosen on out-of-fold predictions, and judged on folds that they were not chosen on."""

import math

import numpy as np
import pytest

from medseg.data.cases import Case
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig
from medseg.progress import QuietProgress
from medseg.study.cross_validation.folder import Scored
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.selection.choice import choose_candidate
from medseg.study.cross_validation.selection.probabilities import read_levels, write_levels
from medseg.study.cross_validation.selection.steps import THRESHOLDS, SettingSelector
from medseg.training.dataset.preparation import PreparedDataset

FOLDS = np.array([0, 0, 1, 1])


def test_a_candidate_that_helps_in_all_folds_is_chosen_by_hand():
    scores = np.array([[0.5, 0.7, 0.6], [0.6, 0.8, 0.6], [0.7, 0.8, 0.9], [0.4, 0.7, 0.7]])
    choice = choose_candidate(scores, FOLDS)
    # means 0.55, 0.75, 0.7; of fold 1 0.55, 0.75, 0.8 and of fold 0 0.55, 0.75, 0.6: each fold gets the other's
    assert choice.index == 1
    assert (choice.before, choice.after) == pytest.approx((0.55, 0.75))
    assert choice.unbiased == pytest.approx((0.6 + 0.6 + 0.8 + 0.7) / 4)


def test_a_candidate_that_harms_the_folds_it_was_not_chosen_on_is_refused():
    # the second helps only in fold 0, which is scored without it; chosen there, it harms fold 1
    scores = np.array([[0.5, 0.9], [0.5, 0.9], [0.8, 0.6], [0.8, 0.6]])
    choice = choose_candidate(scores, FOLDS)
    assert choice.unbiased == pytest.approx((0.5 + 0.5 + 0.6 + 0.6) / 4)
    assert (choice.index, choice.before, choice.after) == (0, pytest.approx(0.65), pytest.approx(0.65))


def test_small_gains_and_undefined_scores_change_nothing():
    assert choose_candidate(np.array([[0.5, 0.5005]] * 4), FOLDS).index == 0
    assert choose_candidate(np.full((4, 2), math.nan), FOLDS).index == 0


HEADER = ModelHeader(
    spatial_dims=3, channels=1, labels=LabelSchema(names={"background": (0,), "organ": (1,)}),
    preprocess=PreprocessConfig(), inference=InferenceConfig(), model=UNetConfig(channels=(4, 8)),
)  # fmt: skip


def test_stored_probabilities_have_exact_limits(tmp_path):
    values = np.array([0.0, 0.3499, 0.35, 0.5, 0.94999, 1.0], np.float32)
    write_levels(tmp_path / "a.npz", np.stack([1 - values, values]), HEADER)
    levels = read_levels(tmp_path / "a.npz")
    assert levels.shape == (1, 6)
    assert (levels[0] >= 70).tolist() == [False, False, True, True, True, True]  # 0.35
    assert (levels[0] >= 190).tolist() == [False, False, False, False, False, True]  # 0.95


def test_a_threshold_and_then_a_step_are_chosen(tmp_path, monkeypatch):
    reference = np.zeros((12, 12, 12), bool)
    reference[2:8, 2:8, 2:8] = True
    probability = np.where(reference, 0.42, 0.2)  # all of it is found at 0.3 to 0.4
    probability[11, 11, 11] = 0.42  # a false component, which the largest component leaves out
    cases = [Case(f"c{i}", tmp_path / f"c{i}.nii.gz") for i in range(4)]
    dataset = PreparedDataset(cases, [], {}, HEADER.labels, 1, PreprocessConfig())
    folds = Folds(dataset, {case.id: i % 2 for i, case in enumerate(cases)})
    scored = Scored(tmp_path)
    for case in cases:
        write_levels(scored.probabilities / f"{case.id}.npz", np.stack([1 - probability, probability]), HEADER)
    selector = SettingSelector(folds, HEADER, scored, QuietProgress())
    masks = {"organ": (probability > 0.5, reference)}
    monkeypatch.setattr(SettingSelector, "_masks", lambda self, case: (dict(masks), 1.0))
    monkeypatch.setattr(SettingSelector, "_voxel", 1.0)
    selection = selector.select()
    assert 0.2 < selection.thresholds["organ"] <= 0.4
    assert selection.steps.largest == ("organ",) or selection.steps.smallest
    threshold, step = selection.rows
    assert (threshold.before, threshold.after) == pytest.approx((0, 2 * 216 / (2 * 216 + 1)))
    assert (step.before, step.after, step.unbiased) == pytest.approx((2 * 216 / (2 * 216 + 1), 1, 1))
    assert selection.inference["thresholds"] == selection.thresholds
    assert THRESHOLDS[0] == 0.5
    assert len(THRESHOLDS) == len(set(THRESHOLDS)) == 9
