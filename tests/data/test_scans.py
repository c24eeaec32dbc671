from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.data.io.readers import read_scan
from medseg.data.scans import Scan, array_dims, as_label_map, check_finite, scan_from_array
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


def test_equal_channels_are_one():
    values = np.array([[1, 2], [3, 4]], np.uint8)
    assert np.array_equal(as_label_map(scan(np.stack([values] * 3))), values)
    with pytest.raises(DataError, match=r"one channel, this file has 3 different ones"):
        as_label_map(scan(np.stack([values, values, values + 1])))
    with pytest.raises(DataError, match=r"one channel, this file has 4 different ones"):
        as_label_map(scan(np.stack([values] * 3 + [values + 1])[..., None], "volume"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, "whole numbers, got 0.5"),
        (np.nan, "NaN or infinite"),
        (np.inf, "NaN or infinite"),
        (1e30, "too large"),
    ],
)
def test_values_that_are_no_labels_are_refused(value, expected):
    with pytest.raises(DataError, match=expected):
        as_label_map(scan(np.array([[[0, value]]])))


def test_a_mask_scaled_by_one_255th_is_read(tmp_path):
    # SPM writes masks as uint8 with the slope 1/255, which float32 cannot hold: 255 becomes 1.0000000591
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[1, 1, 1:3] = 255
    image = nib.Nifti1Image(mask, np.eye(4))
    image.header.set_slope_inter(1 / 255, 0)
    image.to_filename(tmp_path / "m.nii")
    raw = bytearray((tmp_path / "m.nii").read_bytes())
    raw[352:] = mask.tobytes(order="F")
    raw[112:116] = np.float32(1 / 255).tobytes()
    (tmp_path / "m.nii").write_bytes(raw)
    label = as_label_map(read_scan(tmp_path / "m.nii"))
    assert np.array_equal(label, mask // 255)


def test_an_interpolated_label_map_is_still_refused():
    with pytest.raises(DataError, match=r"whole numbers, got 0\.002"):
        as_label_map(Scan(np.array([[[[0.002]]]]), Grid((1, 1, 1), np.eye(4)), "volume", Path("a.nii")))


def test_axes_of_arrays_follow_from_the_spacing_or_the_first_axis():
    assert array_dims(np.zeros((9, 9))) == array_dims(np.zeros((4, 9, 9))) == 2
    assert array_dims(np.zeros((5, 9, 9))) == array_dims(np.zeros((2, 9, 9, 9))) == 3
    assert array_dims(np.zeros((9, 9, 9)), (1, 1)) == 2
    assert array_dims(np.zeros((2, 9, 9)), (1, 1, 1)) == 3


def test_arrays_as_scans():
    volume = scan_from_array(np.zeros((2, 4, 5, 6), bool), 3, (1, 2, 3))
    assert (volume.kind, volume.array.shape, volume.array.dtype) == ("volume", (2, 4, 5, 6), np.uint8)
    assert volume.grid.spacing == (1, 2, 3)
    picture = scan_from_array(np.zeros((4, 5)), 2)
    assert (picture.kind, picture.array.shape, picture.grid.spacing) == ("picture", (1, 4, 5), (1, 1))


@pytest.mark.parametrize(
    ("array", "spacing", "message"),
    [
        (
            np.zeros((4, 5, 6)),
            None,
            r"float64: a volume without spacing\. Pass spacing=\(x, y, z\)",
        ),
        (np.zeros((48, 80, 3)), None, r"move its channels first: np\.moveaxis\(array, -1, 0\)"),
        (np.zeros((4, 5, 6)), (1, 2), r"spacing \(1\.0, 2\.0\): expected 3 numbers above 0"),
        (np.zeros((4, 5, 6)), (1, 2, 0), "expected 3 numbers above 0"),
        (np.zeros((4, 5)), (1, 1, 1), r"expected the numbers of a volume, \(X, Y, Z\) or \(C, X, Y, Z\)"),
        (np.full((4, 5, 6), "a"), (1, 1, 1), "expected the numbers of a volume"),
    ],
)
def test_arrays_that_are_no_scans(array, spacing, message):
    with pytest.raises(DataError, match=message):
        scan_from_array(array, 3, spacing)
