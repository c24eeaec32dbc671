from pathlib import Path

import numpy as np
import pytest

from medseg.data.scans import Scan, as_label_map, check_finite
from medseg.errors import DataError
from medseg.geometry import Grid


def scan(array, kind="picture"):
    array = np.asarray(array)
    affine = np.eye(array.ndim)
    return Scan(array, Grid(array.shape[1:], affine), kind, Path("case_7.png"))


def test_voxels_that_are_no_number_are_counted_and_located():
    array = np.zeros((1, 2, 3))
    check_finite(scan(array))
    check_finite(scan(array.astype(int)))
    array[0, 1, 0], array[0, 1, 2] = np.nan, np.inf
    with pytest.raises(DataError, match=r"case_7\.png: 2 voxels are NaN or infinite, the first at \(1, 0\)"):
        check_finite(scan(array))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64])
def test_a_label_map_of_whole_numbers(dtype):
    values = as_label_map(scan(np.array([[[0, 3], [7, 120]]], dtype)))
    assert np.issubdtype(values.dtype, np.integer)
    assert values.tolist() == [[0, 3], [7, 120]]


def test_black_and_white_is_0_and_1():
    assert as_label_map(scan(np.array([[[True, False]]]))).tolist() == [[1, 0]]


def test_equal_channels_are_one_and_alpha_does_not_count():
    values = np.array([[1, 2], [3, 4]], np.uint8)
    assert np.array_equal(as_label_map(scan(np.stack([values] * 3))), values)
    assert np.array_equal(as_label_map(scan(np.stack([values] * 3 + [values * 0 + 255]))), values)
    with pytest.raises(DataError, match=r"one channel, this file has 3 different ones"):
        as_label_map(scan(np.stack([values, values, values + 1])))
    with pytest.raises(DataError, match=r"one channel, this file has 4 different ones"):
        as_label_map(scan(np.stack([values] * 3 + [values + 1])[..., None], "volume"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, "whole numbers, found 0.5"),
        (np.nan, "NaN or infinite"),
        (np.inf, "NaN or infinite"),
        (1e30, "too large"),
    ],
)
def test_values_that_are_no_labels_are_refused(value, expected):
    with pytest.raises(DataError, match=expected):
        as_label_map(scan(np.array([[[0, value]]])))
