import numpy as np

from medseg.metrics.geometry.bounding_box import bounding_box, joint_box, label_box, value_boxes

EMPTY = (slice(0, 0), slice(0, 0))


def test_bounding_box():
    mask = np.zeros((6, 7), bool)
    assert bounding_box(mask) == EMPTY
    mask[2, 5] = mask[4, 1] = True
    assert bounding_box(mask) == (slice(2, 5), slice(1, 6))


def test_an_empty_box_adds_nothing():
    box = (slice(2, 5), slice(1, 6))
    assert joint_box(box, EMPTY) == joint_box(EMPTY, box) == box
    assert joint_box(EMPTY, EMPTY) == EMPTY
    assert joint_box(box, (slice(0, 1), slice(5, 9))) == (slice(0, 5), slice(1, 9))


def test_boxes_of_any_integer_value():
    labels = np.zeros((6, 7), np.int64)
    labels[1, 1], labels[5, 6], labels[3, 3], labels[0, 2] = 7, 200, -4, 1_000_000
    boxes = value_boxes(labels, [200, 7, -4, 1_000_000, 3])
    assert boxes[7] == (slice(1, 2), slice(1, 2))
    assert boxes[200] == (slice(5, 6), slice(6, 7))
    assert boxes[-4] == (slice(3, 4), slice(3, 4))
    assert boxes[1_000_000] == (slice(0, 1), slice(2, 3))
    assert boxes[3] == EMPTY
    assert label_box(boxes, [3, 7, 200]) == (slice(1, 6), slice(1, 7))
