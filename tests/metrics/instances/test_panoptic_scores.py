"""Panoptic quality, by hand."""

import math

import numpy as np
import pytest

from medseg.metrics.instances import PanopticCounts, PanopticMap, count_panoptic, panoptic_scores


def test_matches_have_an_iou_above_one_half_and_the_same_class():
    reference = PanopticMap(np.array([1, 1, 1, 1, 2, 2, 2, 2]), {1: 5, 2: 6})
    prediction = PanopticMap(np.array([9, 9, 9, 3, 3, 3, 3, 3]), {9: 5, 3: 5})
    counts = count_panoptic([(reference, prediction)])
    assert counts[5] == PanopticCounts(tp=1, fp=1, fn=0, iou=0.75)
    assert counts[6] == PanopticCounts(tp=0, fp=0, fn=1, iou=0.0)
    # class 5: 0.75 / (1 + 1/2); class 6: 0
    scores = panoptic_scores(counts, things=[5])
    assert scores["things"]["pq"] == pytest.approx(0.5)
    assert scores["stuff"] == {"pq": 0, "sq": 0, "rq": 0}
    assert scores["all"]["pq"] == pytest.approx(0.25)


def test_void_of_the_reference_counts_neither_in_unions_nor_as_wrong():
    reference = PanopticMap(np.array([0, 0, 0, 1, 1, 0]), {1: 5})
    prediction = PanopticMap(np.array([8, 8, 7, 7, 7, 0]), {7: 5, 8: 5})
    # 7 covers void with one of three pixels: IoU 2 / (2 + 3 - 2 - 1); 8 lies in void entirely
    assert count_panoptic([(reference, prediction)])[5] == PanopticCounts(tp=1, fp=0, fn=0, iou=1.0)


def test_a_crowd_is_neither_missed_nor_are_objects_in_it_wrong():
    reference = PanopticMap(np.array([1, 1, 1, 1]), {1: 5}, frozenset({1}))
    inside = PanopticMap(np.array([2, 2, 3, 3]), {2: 5, 3: 6})
    counts = count_panoptic([(reference, inside)])
    assert 5 not in counts
    assert counts[6] == PanopticCounts(tp=0, fp=1, fn=0, iou=0.0)  # of another class than the crowd


def test_counts_are_pooled_over_images_and_empty_classes_are_left_out():
    whole = PanopticMap(np.array([1, 1]), {1: 5})
    counts = count_panoptic([(whole, whole), (whole, PanopticMap(np.array([0, 0]), {}))])
    assert counts[5].scores()["pq"] == pytest.approx(1 / 1.5)
    assert math.isnan(panoptic_scores({7: PanopticCounts()}, [])["all"]["pq"])
