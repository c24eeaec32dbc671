import numpy as np
import pytest

from medseg.instances.matching import match_objects, mean_pooled_score, pooled_score


def test_iou_of_two_thirds():
    # object 1: 2 of 3 voxels shared; object 2 is missed; predicted 3 is extra
    reference = np.array([1, 1, 0, 2, 2, 0])
    predicted = np.array([1, 1, 1, 0, 0, 3])
    matched = match_objects(reference, predicted)
    assert matched.ious.tolist() == pytest.approx([2 / 3])
    assert matched.counts(0.5) == (1, 1, 1)
    assert matched.counts(0.7) == (0, 2, 2)
    assert pooled_score([matched]) == pytest.approx(1 / 3)
    # 4 of the 10 thresholds (0.5, 0.55, 0.6, 0.65) are below 2/3
    assert mean_pooled_score([matched]) == pytest.approx(0.4 / 3)


def test_an_iou_of_one_half_is_no_match():
    assert match_objects(np.array([1, 1]), np.array([1, 0])).counts() == (0, 1, 1)


def test_ignored_voxels_count_nowhere():
    reference, predicted = np.array([1, 1, 0, 0]), np.array([1, 1, 2, 2])
    ignored = np.array([False, False, True, True])
    assert match_objects(reference, predicted, ignored).counts() == (1, 0, 0)


def test_no_objects_have_no_score():
    empty = np.zeros(4, int)
    assert np.isnan(pooled_score([match_objects(empty, empty)]))


def test_objects_in_ignored_voxels_have_no_score():
    reference, predicted = np.array([1, 1, 0, 0, 0]), np.array([2, 2, 1, 1, 3])
    ignored = np.array([False, False, True, True, False])
    matches = match_objects(reference, predicted, ignored)
    assert matches.counts() == (1, 1, 0)
    scores, hits = matches.scored(np.array([0.7, 0.9, 0.2]))
    assert scores.tolist() == [0.9, 0.2]
    assert hits.tolist() == [True, False]
