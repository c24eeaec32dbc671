import math

import numpy as np
import pytest

from medseg.metrics import confusion, confusion_matrix, dataset_scores

REFERENCE = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
PREDICTION = np.array([[0, 1, 1], [1, 2, 0]], np.uint8)


def test_matrix_by_hand():
    expected = [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert confusion_matrix(REFERENCE, PREDICTION, 4).tolist() == expected


def test_scores_by_hand():
    scores = dataset_scores(confusion_matrix(REFERENCE, PREDICTION, 4), ["background", "a", "b", "absent"])
    assert scores["pixel_accuracy"] == pytest.approx(4 / 6)
    # background 1 / (2 + 2 - 1), a 2 / (2 + 3 - 2), b 1 / (2 + 1 - 1)
    assert [scores["iou"][name] for name in ("background", "a", "b")] == pytest.approx([1 / 3, 2 / 3, 1 / 2])
    assert math.isnan(scores["iou"]["absent"])
    assert scores["miou_with_background"] == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
    assert scores["miou_without_background"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["frequency_weighted_iou"] == pytest.approx((2 * 1 / 3 + 2 * 2 / 3 + 2 * 1 / 2) / 6)
    assert (scores["classes_present"], scores["pixels"]) == (3, 6)


def test_ignored_pixels_count_nowhere():
    reference = REFERENCE.copy()
    reference[0, 1] = 255
    matrix = confusion_matrix(reference, PREDICTION, 3, ignore_index=255)
    assert matrix.sum() == 5
    assert matrix[0].tolist() == [1, 0, 0]


def test_blocks_add_up(monkeypatch):
    whole = confusion_matrix(REFERENCE, PREDICTION, 3)
    monkeypatch.setattr(confusion, "_BLOCK", 2)
    np.testing.assert_array_equal(confusion_matrix(REFERENCE, PREDICTION, 3), whole)


def test_nothing_to_score():
    scores = dataset_scores(np.zeros((2, 2), np.int64), ["background", "a"])
    assert math.isnan(scores["pixel_accuracy"])
    assert math.isnan(scores["miou_without_background"])


def test_errors():
    with pytest.raises(ValueError, match="reference contains class indices from 0 to 2, expected 0 to 1"):
        confusion_matrix(REFERENCE, PREDICTION, 2)
    with pytest.raises(ValueError, match="float64, expected integer"):
        confusion_matrix(REFERENCE, PREDICTION.astype(float), 3)
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected \(3, 3\)"):
        dataset_scores(np.zeros((2, 2), np.int64), ["background", "a", "b"])
