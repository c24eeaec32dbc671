import math

import numpy as np
import pytest

from medseg.metrics import boundary_iou


def test_rims_by_hand():
    # 5×5 against its upper 5×4 part (rows of 2 mm, columns of 1 mm), rims of 1 mm: only columns are near.
    # Rims: columns 0 and 4 of the one, 0 and 3 of the other: shared 5, together 15
    reference, prediction = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    reference[2:7, 2:7] = prediction[2:7, 2:6] = True
    assert boundary_iou(reference, prediction, (2.0, 1.0), 1.0) == pytest.approx(5 / 15)


def test_a_wide_rim_is_the_whole_mask():
    reference, prediction = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    reference[2:7, 2:7] = prediction[2:7, 2:6] = True
    assert boundary_iou(reference, prediction, (1.0, 1.0), 10.0) == pytest.approx(20 / 25)


def test_outside_the_array_is_background():
    # of 4×4 pixels the 12 at the edge are 1 mm from the outside
    mask, middle = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    middle[1:3, 1:3] = True
    assert boundary_iou(mask, middle, (1.0, 1.0), 1.0) == 0.0


def test_empty_masks():
    full, empty = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    assert math.isnan(boundary_iou(empty, empty, (1, 1), 1.0))
    assert boundary_iou(full, empty, (1, 1), 1.0) == boundary_iou(empty, full, (1, 1), 1.0) == 0.0
