import math

import numpy as np
import pytest

from medseg.metrics import lesion_metrics, panoptic_quality


def test_detection_by_hand():
    # reference: A 4, B 4, C 1 pixels. prediction: 2 of A plus 1 beyond, another 1 of A, 1 elsewhere
    reference, prediction = np.zeros((9, 12), np.uint8), np.zeros((9, 12), np.uint8)
    reference[0, 0:4] = reference[3, 0:4] = reference[8, 11] = 1
    prediction[0, 0:2] = prediction[1, 0] = 1  # shares 2 of 4 + 3 - 2 = 5: IoU 0.4
    prediction[0, 3] = 1  # shares 1 of 4: IoU 0.25, but A is taken
    prediction[6, 6] = 1
    scores = lesion_metrics(reference, prediction)
    assert (scores["n_reference"], scores["n_prediction"]) == (3, 3)
    assert (scores["tp"], scores["fp"], scores["fn"]) == (1, 2, 2)
    assert scores["sensitivity"] == scores["precision"] == scores["f1"] == pytest.approx(1 / 3)
    assert scores["sensitivity_any"] == pytest.approx(1 / 3)
    assert scores["precision_any"] == pytest.approx(2 / 3)
    assert scores["mean_iou"] == pytest.approx(0.4)
    assert lesion_metrics(reference, prediction, min_iou=0.5)["tp"] == 0


def test_diagonal_neighbors_are_one_lesion():
    for ndim in (2, 3):
        mask = np.zeros((4,) * ndim, bool)
        mask[(0,) * ndim] = mask[(1,) * ndim] = True
        assert lesion_metrics(mask, mask)["n_reference"] == 1


def test_nothing_to_find():
    empty, full = np.zeros((4, 4)), np.ones((4, 4))
    both = lesion_metrics(empty, empty)
    assert (both["n_reference"], both["n_prediction"], both["tp"]) == (0, 0, 0)
    assert all(math.isnan(both[key]) for key in ("sensitivity", "precision", "f1", "sensitivity_any"))
    missed = lesion_metrics(full, empty)
    assert missed["f1"] == missed["sensitivity"] == 0.0
    assert math.isnan(missed["precision"])


def test_errors():
    with pytest.raises(ValueError, match="min_iou is 0"):
        lesion_metrics(np.ones((3, 3)), np.ones((3, 3)), min_iou=0)


def test_a_component_over_two_lesions_is_matched_with_the_better_one():
    # 5 pixels cover all 3 of A (IoU 3/5), the gap and 1 of the 3 of B (IoU 1/7): they go to A, B is missed
    reference, prediction = np.zeros((3, 9), np.uint8), np.zeros((3, 9), np.uint8)
    reference[0, 0:3] = reference[0, 4:7] = 1
    prediction[0, 0:5] = 1
    scores = lesion_metrics(reference, prediction)
    assert (scores["tp"], scores["fp"], scores["fn"]) == (1, 0, 1)
    assert scores["sensitivity_any"] == 1.0
    assert scores["mean_iou"] == pytest.approx(3 / 5)  # 3 shared of 5


def test_panoptic_quality_by_hand():
    # ids 7 and 300 against 2 and 5: 3 of 4 shared (IoU 0.75 matches), 1 of 2 (0.5 does not)
    reference = np.array([[7, 7, 7, 7, 0, 300, 300, 0]])
    prediction = np.array([[2, 2, 2, 0, 0, 5, 0, 0]])
    scores = panoptic_quality(reference, prediction)
    assert (scores["tp"], scores["fp"], scores["fn"]) == (1, 1, 1)
    assert scores["sq"] == pytest.approx(0.75)
    assert scores["rq"] == pytest.approx(0.5)
    assert scores["pq"] == pytest.approx(0.375)


def test_panoptic_quality_without_matches_or_instances():
    empty, full = np.zeros((3, 3), int), np.ones((3, 3), int)
    assert panoptic_quality(full, empty)["pq"] == 0.0
    assert math.isnan(panoptic_quality(full, empty)["sq"])
    assert math.isnan(panoptic_quality(empty, empty)["pq"])
