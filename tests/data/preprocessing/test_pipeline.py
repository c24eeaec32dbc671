import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import inv_ornt_aff

from medseg.data.preprocessing.normalization import Range, ZScore
from medseg.data.preprocessing.pipeline import (
    PreprocessConfig,
    prepare_image,
    prepare_label_map,
    resample,
    restore_orientation,
)
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.geometry import Grid, resampled_grid

RNG = np.random.default_rng(0)
PLAIN = Range(low=0, high=1000)
ORIENTATIONS = [
    np.array(list(zip(order, flips, strict=True)), dtype=float)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def volume(array, affine=None):
    array = np.asarray(array)
    return Scan(array, Grid(array.shape[1:], np.eye(4) if affine is None else affine), "volume", Path("a.nii"))


def picture(array):
    array = np.asarray(array)
    return Scan(array, Grid.picture(*array.shape[1:]), "picture", Path("a.png"))


def mm_ramp(grid):
    """A linear function of each voxel's position in mm, (1, *S)."""
    indices = np.indices(grid.shape).reshape(len(grid.shape), -1)
    n = len(grid.shape)
    places = grid.affine[:n, :n] @ indices + grid.affine[:n, n:]
    return (np.arange(1, n + 1) @ places).reshape(1, *grid.shape)


@given(st.sampled_from(ORIENTATIONS), st.integers(1, 3), st.sampled_from(["RAS", "native"]))
@settings(max_examples=60, deadline=None)
def test_preparing_and_restoring_is_the_identity_without_resampling(orientation, channels, frame):
    affine = np.diag([1, 2, 3, 1]) @ inv_ornt_aff(orientation, (3, 4, 5))
    scan = volume(RNG.integers(0, 1000, (channels, 3, 4, 5)).astype(np.float32), affine)
    config = PreprocessConfig(orientation=frame, normalize=PLAIN)
    prepared = prepare_image(scan, config, channels)
    assert prepared.array.dtype == np.float32
    assert prepared.array.flags.c_contiguous
    assert prepared.grid is prepared.reoriented
    if frame == "RAS":
        np.testing.assert_allclose(prepared.grid.spacing, (1, 2, 3))
    restored = restore_orientation(prepared.array, prepared, scan, config)
    np.testing.assert_array_equal(restored, (scan.array / np.float32(1000)).astype(np.float32))
    codes = RNG.integers(0, 5, (3, 4, 5)).astype(np.uint8)
    label = prepare_label_map(codes, scan, config)
    assert label.dtype == np.uint8
    assert np.array_equal(restore_orientation(label[None], prepared, scan, config)[0], codes)


def test_pictures_are_not_reoriented():
    scan = picture(np.arange(12, dtype=np.uint8).reshape(1, 3, 4))
    config = PreprocessConfig(normalize=PLAIN)
    prepared = prepare_image(scan, config, 1)
    np.testing.assert_allclose(prepared.array, scan.array / 1000, rtol=1e-6)
    assert restore_orientation(prepared.array, prepared, scan, config) is prepared.array


@pytest.mark.parametrize("spacing", [(0.7, 1.3, 2.0), (2.0, 2.0, 2.0), (0.5, 3.0, 1.0)])
@pytest.mark.parametrize("oblique", [False, True])
def test_a_linear_ramp_is_resampled_exactly_in_the_interior(spacing, oblique):
    affine = np.diag([1.0, 1.5, 2, 1])
    if oblique:
        turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
        affine[:3, :3] = turn @ affine[:3, :3]
        affine[:3, 3] = (5, -7, 9)
    source = Grid((12, 13, 14), affine)
    target = resampled_grid(source, spacing)
    resampled = resample(mm_ramp(source).astype(np.float32), source, target, "bilinear")
    inside = (slice(None), *(slice(4, -4) if n > 10 else slice(1, -1) for n in target.shape))
    assert resampled[inside].size > 0
    np.testing.assert_allclose(resampled[inside], mm_ramp(target)[inside], atol=2e-3)


def test_pictures_are_resampled():
    source = Grid.picture(20, 30)
    for spacing in ((2, 2), (0.5, 1)):
        target = resampled_grid(source, spacing)
        resampled = resample(mm_ramp(source).astype(np.float32), source, target, "bilinear")
        np.testing.assert_allclose(resampled[:, 2:-2, 2:-2], mm_ramp(target)[:, 2:-2, 2:-2], atol=1e-3)


def test_half_the_resolution_by_hand():
    # new centers lie between two old voxels: means of (0, 10), (20, 30)
    scan = volume(np.arange(4.0).reshape(1, 4, 1, 1) * 10)
    resampled = resample(scan.array, scan.grid, resampled_grid(scan.grid, (2, 1, 1)), "bilinear")
    np.testing.assert_allclose(resampled.ravel(), [5, 25], atol=1e-4)


def test_edge_values_are_extended_beyond_the_outer_voxel_centers():
    scan = volume(np.array([10.0, 20]).reshape(1, 2, 1, 1))
    resampled = resample(scan.array, scan.grid, resampled_grid(scan.grid, (0.5, 1, 1)), "bilinear")
    # new centers at -0.25, 0.25, 0.75, 1.25
    np.testing.assert_allclose(resampled.ravel(), [10, 12.5, 17.5, 20], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_keep_their_set_of_values(dtype):
    codes = np.zeros((12, 12, 12), dtype)
    codes[2:9, 3:8, 2:10] = 1
    codes[4:8, 4:7, 4:8] = 200 if dtype is np.uint8 else 3001
    scan = volume(codes[None])
    for spacing in ((0.6, 1.7, 1.1), (2, 2, 2)):
        label = prepare_label_map(codes, scan, PreprocessConfig(spacing=spacing))
        assert label.dtype == dtype
        assert set(np.unique(label)) == set(np.unique(codes))


def test_image_label_and_restored_image_share_a_grid():
    affine = np.diag([1.0, 1.5, 2, 1]) @ inv_ornt_aff(ORIENTATIONS[21], (12, 13, 14))
    codes = np.zeros((12, 13, 14), np.uint8)
    codes[3:9, 4:10, 3:11] = 1
    scan = volume(codes[None].astype(np.float32), affine)
    config = PreprocessConfig(spacing=(0.8, 0.9, 1.0), normalize=Range(low=0, high=1))
    prepared = prepare_image(scan, config, 1)
    label = prepare_label_map(codes, scan, config)
    assert prepared.array.shape[1:] == label.shape == prepared.grid.shape
    # linear and nearest agree but for the object's surface
    assert ((prepared.array[0] > 0.5) == (label == 1)).mean() > 0.97
    back = resample(prepared.array, prepared.grid, prepared.reoriented, "bilinear")
    back = restore_orientation(back, prepared, scan, config)
    assert back.shape[1:] == codes.shape
    assert ((back[0] > 0.5) == (codes == 1)).mean() > 0.99


def test_the_same_spacing_is_not_resampled():
    scan = volume(RNG.normal(size=(1, 4, 4, 4)))
    prepared = prepare_image(scan, PreprocessConfig(spacing=(1.0005, 1, 1)), 1)
    assert prepared.grid is prepared.reoriented
    np.testing.assert_array_equal(prepared.array, ZScore()(scan.array))


def test_spacing_refers_to_the_reoriented_axes():
    affine = np.diag([1.0, 2, 3, 1]) @ inv_ornt_aff(np.array([[2, 1], [0, -1], [1, 1]]), (3, 4, 5))
    prepared = prepare_image(volume(np.zeros((1, 3, 4, 5)), affine), PreprocessConfig(spacing=(1, 2, 1.5)), 1)
    # along right, anterior, superior: 5, 3 and 4 voxels of 1, 2 and 3 mm; only the last is resampled
    assert prepared.reoriented.shape == (5, 3, 4)
    assert prepared.grid.shape == (5, 3, 8)


@pytest.mark.parametrize(
    ("scan", "config", "expected"),
    [
        (volume(np.full((1, 2, 2, 2), np.nan)), PreprocessConfig(), "NaN or infinite"),
        (volume(np.zeros((2, 2, 2, 2))), PreprocessConfig(), "has 2 channels, expected 1"),
        (
            volume(np.zeros((1, 2, 2, 2))),
            PreprocessConfig(spacing=(1, 1)),
            "image with 3 axes, but preprocess.spacing has 2 values",
        ),
    ],
)
def test_unsuitable_scans_raise(scan, config, expected):
    with pytest.raises(DataError, match=expected):
        prepare_image(scan, config, 1)
