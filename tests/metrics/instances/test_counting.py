"""Matched objects and errors of counting, with hand-computed values."""

import math

import numpy as np
import pytest

from medseg.metrics.instances.assignment import match_objects
from medseg.metrics.instances.counting import count_matches
from medseg.metrics.instances.overlaps import Overlaps, overlaps_of_label_maps


def pairs(*rows, reference=2, predicted=2):
    """Overlaps with these IoU: of two sizes of 10 that share s, IoU = s / (20 - s)."""
    table = np.array(rows, float).reshape(-1, 3)
    shared = 20 * table[:, 2] / (1 + table[:, 2])
    sizes = np.full(reference, 10.0), np.full(predicted, 10.0)
    return Overlaps(*sizes, table[:, 0].astype(int), table[:, 1].astype(int), shared)


def test_as_many_pairs_as_possible_are_matched():
    # greedily, (0, 0) would leave both others without a partner
    overlaps = pairs((0, 0, 0.5), (0, 1, 0.4), (1, 0, 0.4))
    assert match_objects(overlaps, 0.3).tolist() == [1, 2]
    assert match_objects(overlaps, 0.45).tolist() == [0]


def test_of_equally_many_pairs_those_of_larger_overlap():
    overlaps = pairs((0, 0, 0.4), (0, 1, 0.6), reference=1)
    assert match_objects(overlaps, 0.3).tolist() == [1]


def test_the_same_masks_pooled_and_per_image_differ():
    images = [pairs((0, 0, 0.9), reference=1, predicted=1), pairs((0, 0, 0.6), reference=3, predicted=2)]
    counts = count_matches(images, (0.5, 0.75))
    assert counts.matched.tolist() == [[1, 1], [1, 0]]
    # at 0.5: 2 of 1 + 4 objects; per image 1 and 1/4. At 0.75: 1 of 1 + 5; 1 and 0
    assert counts.pooled().tolist() == pytest.approx([2 / 5, 1 / 6])
    assert counts.per_image().tolist() == pytest.approx([0.625, 0.5])
    assert counts.f1()[0] == pytest.approx(4 / 7)
    assert counts.precision()[0] == pytest.approx(2 / 3)
    assert counts.recall()[0] == pytest.approx(2 / 4)


def test_errors_of_the_count():
    images = [pairs(reference=4, predicted=5), pairs(reference=2, predicted=1), pairs(reference=0, predicted=3)]
    errors = count_matches(images).count_errors()
    assert errors == pytest.approx({"count_bias": 1, "count_mae": 5 / 3, "count_relative": (1 / 4 + 1 / 2) / 2})


def test_images_without_objects():
    empty = overlaps_of_label_maps(np.zeros(3, int), np.zeros(3, int))
    counts = count_matches([empty, pairs((0, 0, 0.9), reference=1, predicted=1)], (0.5,))
    assert counts.per_image().tolist() == [1]  # the empty one is left out
    alone = count_matches([empty], (0.5,))
    assert math.isnan(alone.pooled()[0])
    assert math.isnan(alone.per_image()[0])
    assert count_matches([], (0.5,)).matched.shape == (0, 1)
