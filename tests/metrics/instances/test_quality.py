"""Panoptic quality, AJI+, split and merged objects, FROC and the ceiling of a perfect foreground."""

import math

import numpy as np
import pytest

from medseg.metrics.instances.average_precision import DetectedObjects
from medseg.metrics.instances.froc import free_response_curve
from medseg.metrics.instances.overlaps import overlaps_of_label_maps
from medseg.metrics.instances.quality import (
    aggregated_jaccard,
    mean_aggregated_jaccard,
    panoptic_quality_of,
    split_and_merged,
)
from medseg.metrics.instances.summary import foreground_overlaps, instance_scores


def overlaps(reference, predicted):
    return overlaps_of_label_maps(np.array(reference), np.array(predicted))


def test_panoptic_quality_is_pooled_over_images():
    first = overlaps([1, 1, 1, 1, 0], [1, 1, 1, 0, 2])  # IoU 3/4, one false positive
    second = overlaps([1, 1, 0], [0, 0, 0])  # one false negative
    expected = {"sq": 0.75, "rq": 2 / 4, "pq": 0.375}
    assert panoptic_quality_of([first, second]) == pytest.approx(expected)
    half = overlaps([1, 1], [1, 0])  # an IoU of 0.5 is no match
    assert panoptic_quality_of([half]) == {"pq": 0, "sq": 0, "rq": 0}
    assert math.isnan(panoptic_quality_of([overlaps([0], [0])])["pq"])


def test_aggregated_jaccard_of_matched_and_single_objects():
    # 3 shared of a union of 4; a false positive of 1 and a missed object of 2
    image = overlaps([1, 1, 1, 1, 0, 2, 2], [1, 1, 1, 0, 2, 0, 0])
    assert aggregated_jaccard(image) == (3, 7)
    assert mean_aggregated_jaccard([image, overlaps([1, 1], [1, 1])]) == pytest.approx(
        {"aji_plus": (3 / 7 + 1) / 2, "aji_plus_pooled": 5 / 9}
    )


def test_each_object_is_used_once_in_the_aggregated_jaccard():
    # the prediction covers both objects: it is matched to the larger one
    assert aggregated_jaccard(overlaps([1, 1, 1, 2, 2], [1, 1, 1, 1, 1])) == (3, 7)


def test_split_and_merged_objects():
    assert split_and_merged(overlaps([1, 1, 1, 1], [1, 1, 2, 2])) == (1, 0)
    assert split_and_merged(overlaps([1, 1, 2, 2], [3, 3, 3, 3])) == (0, 1)
    assert split_and_merged(overlaps([1, 1, 2, 2], [1, 1, 2, 2])) == (0, 0)
    small = [1] * 30
    assert split_and_merged(overlaps(small, [1] * 28 + [2] * 2)) == (0, 0)  # the second part is too small


def test_a_perfect_foreground_merges_what_touches():
    reference = np.array([[1, 1, 1, 2, 2], [0, 0, 0, 0, 0], [3, 3, 0, 0, 0]])
    scores = instance_scores([foreground_overlaps(reference)])
    assert scores["pooled_50"] == pytest.approx(2 / 3)  # the component has an IoU of 0.6 with object 1
    assert scores["pooled_mean"] == pytest.approx((3 * 2 / 3 + 7 * 1 / 4) / 10)  # up to 0.6, then one of 4
    assert scores["merged"] == 1
    assert scores["split"] == 0


def detected(reference, predicted, scores, **flags):
    image = overlaps(reference, predicted)
    kinds = [np.ones(len(sizes), int) for sizes in (image.reference_sizes, image.predicted_sizes)]
    return DetectedObjects(image, np.array(scores, float), *kinds, **flags)


def test_free_response_curve():
    # found at 0.9; a false positive at 0.8; found again at 0.7 (no false positive); found at 0.5
    first = detected([1, 1, 0, 0, 1], [1, 1, 0, 2, 3], [0.9, 0.8, 0.7])
    second = detected([1, 1, 2], [1, 1, 0], [0.5])
    curve = free_response_curve([first, second], iou=0.1)
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.5]
    assert curve.sensitivity.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert curve.false_positives.tolist() == [0, 0.5, 0.5]
    assert curve.sensitivity_at(0.25) == pytest.approx(1 / 3)
    assert curve.cpm((0.25, 1)) == pytest.approx(0.5)


def test_hits_of_ignored_objects_do_not_count():
    image = detected([1, 0, 2], [1, 0, 2], [0.9, 0.8], ignored=np.array([True, False]))
    curve = free_response_curve([image])
    assert curve.sensitivity.tolist() == [1]
    assert curve.false_positives.tolist() == [0]


def test_the_curve_without_objects_or_detections():
    assert math.isnan(free_response_curve([detected([0], [1], [0.5])]).cpm())
    assert free_response_curve([detected([1], [0], [])]).cpm() == 0
    assert math.isnan(free_response_curve([]).cpm())
