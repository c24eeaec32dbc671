import math

import numpy as np
import pytest

from medseg.metrics import panoptic_quality


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
