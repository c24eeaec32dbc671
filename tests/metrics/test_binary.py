import math

import numpy as np
import pytest

from medseg.metrics import binary_metrics


def test_a_shifted_square_by_hand():
    # 4×4 pixels against the same one row (2 mm) lower: 12 shared, 4 false either way
    reference, prediction = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    reference[1:5, 2:6], prediction[2:6, 2:6] = 1, 255
    scores = binary_metrics(reference, prediction, (2.0, 1.0), 1.0, surface="voxel")
    assert scores["dice"] == pytest.approx(0.75)  # 24 / 32
    assert scores["iou"] == pytest.approx(0.6)  # 12 / 20
    assert scores["accuracy"] == pytest.approx(56 / 64)
    assert scores["specificity"] == pytest.approx(44 / 48)
    # of 12 border pixels, the 4 at the far edge are 2 mm away; the 2 inner ones of the next-to-last row
    # are 1 mm from the sides' border; the other 6 are shared
    assert scores["hd"] == 2.0
    assert scores["assd"] == scores["masd"] == pytest.approx((4 * 2 + 2 * 1) / 12)
    assert scores["nsd"] == pytest.approx(8 / 12)


def test_keys():
    expected = [
        "accuracy",
        "assd",
        "dice",
        "hd",
        "hd95",
        "iou",
        "masd",
        "nsd",
        "precision",
        "recall",
        "rvd",
        "specificity",
        "vs",
    ]
    scores = binary_metrics(np.ones((2, 2)), np.ones((2, 2)), (1, 1), 1.0)
    assert sorted(scores) == expected
    assert all(isinstance(value, float) for value in scores.values())


def test_a_missed_structure_is_the_worst_of_all():
    scores = binary_metrics(np.ones((3, 3, 3)), np.zeros((3, 3, 3)), (1, 1, 1), 1.0)
    assert scores["hd"] == scores["hd95"] == scores["assd"] == scores["masd"] == math.inf
    assert scores["dice"] == scores["iou"] == scores["nsd"] == scores["recall"] == 0.0


def test_errors_name_got_and_expected():
    with pytest.raises(ValueError, match=r"\(2, 3\), expected the reference's \(2, 2\)"):
        binary_metrics(np.ones((2, 2)), np.ones((2, 3)), (1, 1), 1.0)
    with pytest.raises(ValueError, match="expected 2, one per array axis"):
        binary_metrics(np.ones((2, 2)), np.ones((2, 2)), (1, 1, 1), 1.0)
