import numpy as np
import pytest

from medseg.instances import Instances


def square_and_dot() -> Instances:
    label_map = np.zeros((6, 8), np.uint16)
    label_map[1:3, 2:4], label_map[5, 7] = 1, 2
    return Instances.from_label_map(label_map, np.array([1, 2]), np.array([0.9, 0.4]), spacing=(0.5, 2.0))


def test_measures():
    found = square_and_dot()
    assert found.boxes.tolist() == [[[1, 3], [2, 4]], [[5, 6], [7, 8]]]
    assert found.sizes.tolist() == [4.0, 1.0]
    assert found.centers.tolist() == [[1.5, 2.5], [5.0, 7.0]]
    image = np.stack([np.ones((6, 8)), np.arange(48).reshape(6, 8)])
    # rows 1 and 2, columns 2 and 3: 10, 11, 18, 19
    assert found.mean_intensities(image).tolist() == [[1.0, 14.5], [1.0, 47.0]]


def test_label_map_comes_back():
    found = square_and_dot()
    again = Instances.from_label_map(found.label_map(), found.classes, found.scores)
    assert np.array_equal(again.label_map(), found.label_map())
    assert found.label_map().dtype == np.uint16


def test_of_overlapping_masks_the_likelier_is_shown():
    masks = np.zeros((3, 1, 4), bool)
    masks[0, 0, :3], masks[1, 0, 2:] = True, True
    found = Instances.from_masks(masks, np.array([1, 1, 1]), np.array([0.9, 0.5, 0.7]))
    assert len(found) == 2  # the third is empty
    assert found.is_overlapping
    assert found.label_map().tolist() == [[1, 1, 1, 2]]


def test_numbers_without_voxels_are_left_out():
    found = Instances.from_label_map(np.array([[3, 0]]), np.array([1, 1, 2]), np.array([0.1, 0.2, 0.3]))
    assert found.classes.tolist() == [2]
    assert found.scores.tolist() == [0.3]


def test_selection_keeps_the_order():
    assert square_and_dot().select(np.array([1, 0])).classes.tolist() == [2, 1]
    assert len(square_and_dot().select(np.array([False, False]))) == 0


def test_wrong_number_of_scores():
    with pytest.raises(ValueError, match="1 scores for a label map of 2 objects"):
        Instances.from_label_map(np.array([[1, 2]]), scores=np.array([0.5]))
