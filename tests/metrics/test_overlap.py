import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.metrics import overlap
from medseg.metrics.overlap import Counts, count_overlap

masks = hnp.arrays(bool, (4, 5))


def test_scores_by_hand():
    # reference 1 1 1 0 0 0 / prediction 0 1 1 1 0 0: tp 2, fp 1, fn 1, tn 2
    counts = count_overlap(np.array([1, 1, 1, 0, 0, 0]), np.array([0, 1, 1, 1, 0, 0]))
    assert counts == Counts(tp=2, fp=1, fn=1, tn=2)
    assert overlap.dice(counts) == pytest.approx(4 / 6)  # 2·2 / (2·2 + 1 + 1)
    assert overlap.iou(counts) == pytest.approx(2 / 4)
    assert overlap.precision(counts) == pytest.approx(2 / 3)
    assert overlap.recall(counts) == pytest.approx(2 / 3)
    assert overlap.specificity(counts) == pytest.approx(2 / 3)
    assert overlap.accuracy(counts) == pytest.approx(4 / 6)
    assert overlap.volume_similarity(counts) == 1.0  # 3 voxels each
    assert overlap.relative_volume_difference(counts) == 0.0


def test_agreement_beyond_chance_by_hand():
    # 10 voxels: tp 3, fp 1, fn 2, tn 4. Chance (5·4 + 5·6) / 100 = 0.5; kappa (0.7 - 0.5) / 0.5
    counts = Counts(tp=3, fp=1, fn=2, tn=4)
    assert overlap.cohens_kappa(counts) == pytest.approx(0.4)
    assert overlap.matthews_correlation(counts) == pytest.approx((3 * 4 - 1 * 2) / math.sqrt(5 * 4 * 5 * 6))
    assert overlap.f_beta(counts, 1) == pytest.approx(overlap.dice(counts))
    assert overlap.f_beta(counts, 2) == pytest.approx(5 * 3 / (5 * 3 + 4 * 2 + 1))


def test_agreement_of_empty_and_full_masks():
    empty, full, missed = Counts(0, 0, 0, 9), Counts(9, 0, 0, 0), Counts(0, 0, 2, 7)
    for score in (overlap.cohens_kappa, overlap.matthews_correlation):
        assert math.isnan(score(empty))
        assert math.isnan(score(full))
        assert score(missed) == 0.0
    assert math.isnan(overlap.f_beta(empty, 2))
    assert overlap.f_beta(missed, 2) == 0.0


def test_volume_scores_are_signed_where_documented():
    counts = Counts(tp=1, fp=0, fn=3, tn=0)  # Vr = 4, Vp = 1
    assert overlap.relative_volume_difference(counts) == pytest.approx(-0.75)  # (1 - 4) / 4
    assert overlap.volume_similarity(counts) == pytest.approx(0.4)  # 1 - 3/5


def test_both_empty_is_undefined_except_for_the_background():
    counts = count_overlap(np.zeros(6), np.zeros(6))
    for score in (overlap.dice, overlap.iou, overlap.precision, overlap.recall):
        assert math.isnan(score(counts))
    assert math.isnan(overlap.volume_similarity(counts))
    assert math.isnan(overlap.relative_volume_difference(counts))
    assert overlap.specificity(counts) == overlap.accuracy(counts) == 1.0


def test_missed_and_invented_score_zero():
    missed, invented = Counts(tp=0, fp=0, fn=3, tn=3), Counts(tp=0, fp=3, fn=0, tn=3)
    assert overlap.dice(missed) == overlap.dice(invented) == 0.0
    assert overlap.iou(missed) == overlap.iou(invented) == 0.0
    assert math.isnan(overlap.precision(missed))
    assert overlap.recall(missed) == 0.0
    assert math.isnan(overlap.recall(invented))
    assert overlap.precision(invented) == 0.0
    assert overlap.relative_volume_difference(missed) == -1.0
    assert math.isnan(overlap.relative_volume_difference(invented))


def test_unsigned_bytes_cannot_wrap_around():
    # 400 voxels of value 255 against 300 of value 1: sums or differences in uint8 would wrap
    reference, prediction = np.zeros(1000, np.uint8), np.zeros(1000, np.uint8)
    reference[:400], prediction[100:400] = 255, 1
    assert count_overlap(reference, prediction) == Counts(tp=300, fp=0, fn=100, tn=600)


def test_shapes_are_never_broadcast():
    with pytest.raises(ValueError, match=r"\(1, 3\).*expected the reference's \(3, 3\)"):
        count_overlap(np.ones((3, 3)), np.ones((1, 3)))


@given(masks, masks)
def test_swapping_the_masks_swaps_precision_and_recall(reference, prediction):
    one, two = count_overlap(reference, prediction), count_overlap(prediction, reference)
    assert (one.tp, one.fp, one.fn, one.tn) == (two.tp, two.fn, two.fp, two.tn)
    for score in (overlap.dice, overlap.iou, overlap.accuracy, overlap.volume_similarity):
        np.testing.assert_equal(score(one), score(two))
    np.testing.assert_equal(overlap.precision(one), overlap.recall(two))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_dice_follows_from_iou(tp, fp, fn):
    counts = Counts(tp, fp, fn, 0)
    jaccard = overlap.iou(counts)
    assert overlap.dice(counts) == pytest.approx(2 * jaccard / (1 + jaccard))


def test_the_dice_of_empty_masks_is_the_given_value():
    empty, full = np.zeros((2, 2)), np.ones((2, 2))
    assert math.isnan(overlap.dice_score(empty, empty))
    assert overlap.dice_score(empty, empty, empty=1.0) == 1.0
    assert overlap.dice_score(empty, full, empty=1.0) == overlap.dice_score(full, empty, empty=1.0) == 0.0
    assert overlap.dice_score(full, full, empty=0.0) == 1.0
