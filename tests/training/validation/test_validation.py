"""Scores of the validation: the same numbers as an evaluation's, in one pass over the voxels."""

import math

import numpy as np
import pytest

from medseg.data.labels.schema import LabelSchema
from medseg.metrics import case_rows, summarize
from medseg.metrics.overlap import Counts, count_overlap
from medseg.training.validation.validator import case_scores, mean_scores, overlap_counts

PLAIN = LabelSchema(names={"background": (0,), "a": (1,), "b": (2,), "c": (3,)})
REGIONS = LabelSchema(names=PLAIN.names, regions={"whole": ("a", "b"), "core": ("b",), "rest": ("c",)})


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, (5, 6, 7)).astype(np.uint8), rng.integers(-1, 4, (5, 6, 7))


def test_counts_are_those_of_each_label_alone(maps):
    decided, classes = maps
    counted = classes >= 0
    expected = [count_overlap((classes == k)[counted], (decided == k)[counted]) for k in (1, 2, 3)]
    assert overlap_counts(decided[None], classes, PLAIN) == expected


def test_counts_are_those_of_each_region_alone(maps):
    _, classes = maps
    decided = np.random.default_rng(1).random((3, 5, 6, 7)) < 0.5
    counted = classes >= 0
    truth = [np.isin(classes, ks) for ks in ([1, 2], [2], [3])]
    expected = [count_overlap(t[counted], d[counted]) for t, d in zip(truth, decided, strict=True)]
    assert overlap_counts(decided, classes, REGIONS) == expected


def test_a_case_without_any_window_has_no_region():
    nothing = np.zeros((3, 2, 2), np.uint8)  # what is gathered where every window was skipped
    found = overlap_counts(nothing, np.ones((2, 2), np.int64), REGIONS)
    assert [(c.tp, c.fp, c.fn) for c in found] == [(0, 0, 4), (0, 0, 0), (0, 0, 0)]


def test_training_and_evaluation_agree_on_the_mean_dice():
    """Both empty has no Dice, one empty has 0: the score a model is chosen by is the one that is reported."""
    rng = np.random.default_rng(0)
    counts, rows = [], []
    for i in range(4):
        classes = rng.integers(0, 4 if i else 2, (6, 6, 6))  # the first case holds neither b nor c
        decided = np.where(rng.random(classes.shape) < 0.7, classes, 0).astype(np.uint8)
        decided[0, 0, 0] = 2
        counts.append(overlap_counts(decided[None], classes, PLAIN))
        wanted = {name: [k] for k, name in enumerate(("a", "b", "c"), start=1)}
        rows += case_rows(str(i), classes, decided, wanted, (1, 1, 1))
    scores = mean_scores(counts, ("a", "b", "c"))
    summary = summarize(rows)
    assert scores["dice"] == pytest.approx(summary["overall"]["mean_dice"]["mean"])
    for name in ("a", "b", "c"):
        for key in ("dice", "iou"):
            assert scores[f"{key}:{name}"] == pytest.approx(summary["labels"][name]["metrics"][key]["mean"])


def test_a_label_not_annotated_in_a_case_has_no_score_there():
    full = Counts(1, 1, 0, 0)  # 2 / 3
    scores = mean_scores([[full, None], [full, None]], ("a", "b"))
    assert scores["dice:a"] == scores["dice"] == pytest.approx(2 / 3)
    assert math.isnan(scores["dice:b"])


def test_scores_of_cases_are_rows():
    # Dice 2 · 3 / (2 · 3 + 1 + 1); absent in both; not annotated
    counts = [[Counts(3, 1, 1, 0), Counts(0, 0, 0, 5)], [None, Counts(1, 0, 0, 4)]]
    assert case_scores(["x", "y"], counts, ("a", "b")) == [
        {"case": "x", "name": "a", "dice": 0.75},
        {"case": "x", "name": "b", "dice": None},
        {"case": "y", "name": "a", "dice": None},
        {"case": "y", "name": "b", "dice": 1.0},
    ]
