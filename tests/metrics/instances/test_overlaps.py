"""Overlaps of objects, by label maps, masks and boxes."""

import numpy as np
import pytest

from medseg.metrics.instances import overlaps as module
from medseg.metrics.instances.overlaps import overlaps_of_boxes, overlaps_of_label_maps, overlaps_of_masks


def table(overlaps):
    return list(
        zip(overlaps.reference.tolist(), overlaps.predicted.tolist(), overlaps.shared.tolist(), strict=True)
    )


def test_label_maps_with_any_numbers():
    reference = np.array([[5, 5, 0], [5, 10**9, 10**9]])
    predicted = np.array([[2, 2, 2], [0, 7, 7]])
    overlaps = overlaps_of_label_maps(reference, predicted)
    assert overlaps.reference_sizes.tolist() == [3, 2]
    assert overlaps.predicted_sizes.tolist() == [3, 2]
    assert table(overlaps) == [(0, 0, 2), (1, 1, 2)]
    assert overlaps.ious.tolist() == [0.5, 1]


def test_ignored_voxels_do_not_count():
    reference = np.array([1, 1, 1, 2, 0, 0])
    predicted = np.array([1, 1, 1, 1, 3, 3])
    ignored = np.array([0, 0, 0, 1, 0, 1], bool)
    overlaps = overlaps_of_label_maps(reference, predicted, ignored)
    assert overlaps.reference_sizes.tolist() == [3]  # 2 lies in the ignored voxels
    assert overlaps.predicted_sizes.tolist() == [3, 1]
    assert overlaps.ious.tolist() == [1]
    mostly = overlaps_of_label_maps(reference, predicted, np.array([0, 0, 0, 1, 1, 1], bool))
    assert mostly.predicted_sizes.tolist() == [3]  # the other one lies there by more than half


def test_empty_label_maps():
    none = overlaps_of_label_maps(np.zeros((2, 2), int), np.zeros((2, 2), int))
    assert len(none.reference_sizes) == len(none.predicted_sizes) == len(none.shared) == 0


@pytest.mark.parametrize("block", [1, 512])
@pytest.mark.parametrize("dims", [2, 3])
def test_masks_in_boxes_equal_label_maps(dims, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 5, (8,) * dims) * (rng.random((8,) * dims) < 0.5) for _ in range(2)]

    def regions(label_map):
        result = []
        for number in range(1, 5):
            places = np.argwhere(label_map == number)
            box = tuple(slice(a, b + 1) for a, b in zip(places.min(0), places.max(0), strict=True))
            result.append((box, label_map[box] == number))
        return result

    expected = overlaps_of_label_maps(*maps)
    found = overlaps_of_masks(regions(maps[0]), regions(maps[1]))
    assert table(found) == table(expected)
    assert found.reference_sizes.tolist() == expected.reference_sizes.tolist()


def test_boxes():
    overlaps = overlaps_of_boxes(np.array([[0, 0, 2, 4]]), np.array([[5, 5, 6, 6], [0, 3, 2, 7], [0, 4, 2, 5]]))
    assert table(overlaps) == [(0, 1, 2)]  # the last one touches only
    assert overlaps.ious.tolist() == [1 / 7]
    assert len(overlaps_of_boxes(np.zeros((0, 4)), np.zeros((0, 4))).shared) == 0


def test_selection_renumbers_the_pairs():
    overlaps = overlaps_of_label_maps(np.array([1, 2, 3]), np.array([1, 2, 3]))
    part = overlaps.select(np.array([True, False, True]), np.array([False, True, True]))
    assert table(part) == [(1, 1, 1)]
