"""nnU-Net's preprocessing, from a scan to the network's grid and back."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunet_recipe import configuration, dataset, plans
from skimage.transform import resize

from medseg.data.io.readers import read_scan
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.geometry import Grid
from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.interop.nnunet.header import Normalization, Resampling, Stage
from medseg.interop.nnunet.plans import Dataset, Plans, TrainingRecord, parse, read_stage
from medseg.interop.nnunet.predict import window_weights
from medseg.interop.nnunet.preprocess import crop, normalize, prepare, restore_crop
from medseg.interop.nnunet.resample import (
    coarse_axis,
    nearest,
    regrid_logits,
    resample_image,
    resample_labels,
    resampled_shape,
)

LINEAR = Resampling(order=1)
TRAINING = TrainingRecord("nnUNetTrainer", "3d_fullres", mirror_axes=(), folds=("0",), weights=())


def stage(data=None, **changes) -> Stage:
    entry = {key: changes.pop(key) for key in list(changes) if key in configuration()}
    where = Path("plans.json")
    plan = parse(Plans, plans({"3d_fullres": configuration(**entry)}, **changes), where)
    given = parse(Dataset, data or dataset(), where)
    return read_stage(plan, given, TRAINING, where)


def scan(array, affine=None) -> Scan:
    affine = np.eye(4) if affine is None else affine
    return Scan(np.asarray(array), Grid(array.shape[1:], affine), "volume", Path("scan.nii.gz"))


def test_shapes_are_rounded_as_python_rounds():
    # 10 · 1 / 4 = 2.5 → 2, 7 · 0.5 / 1 = 3.5 → 4
    assert resampled_shape((10, 7, 3), (1.0, 0.5, 1.0), (4.0, 1.0, 1.0)) == (2, 4, 3)


@pytest.mark.parametrize(
    ("current", "target", "axis"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),  # not more than three times
        ((3.1, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 4.0), 2),
        ((1.0, 5.0, 1.0), (1.0, 1.0, 4.0), 1),  # the current spacing comes first
        ((0.2, 1.25, 1.25), (1.0, 1.0, 1.0), None),  # two axes are as coarse
    ],
)
def test_the_axis_whose_slices_are_independent(current, target, axis):
    assert coarse_axis(current, target, Resampling()) == axis


def test_the_axis_can_be_set():
    assert coarse_axis((2.0, 1.0, 1.0), (1.0, 1.0, 1.0), Resampling(separate=True)) == 0
    assert coarse_axis((9.0, 1.0, 1.0), (1.0, 1.0, 1.0), Resampling(separate=False)) is None


def test_nearest_planes():
    assert nearest(2, 4) == [0, 0, 1, 1]
    assert nearest(4, 2) == [1, 3]  # half-way between 0 and 1: the upper one
    assert nearest(3, 3) == [0, 1, 2]


def test_images_are_interpolated_by_cubic_splines_and_clipped():
    image = np.random.default_rng(0).random((2, 6, 7, 8)).astype(np.float32)
    found = resample_image(image, (9, 5, 8), (1.5, 1, 1), (1, 1.4, 1), Resampling())
    expected = resize(image[1].astype(float), (9, 5, 8), 3, mode="edge", anti_aliasing=False)
    assert np.allclose(found[1], expected, atol=1e-6)
    assert found.min() >= image.min()
    assert found.max() <= image.max()


def test_thick_slices_are_interpolated_alone():
    image = np.random.default_rng(0).random((1, 3, 6, 6)).astype(np.float32)
    found = resample_image(image, (6, 9, 9), (4.0, 1, 1), (2.0, 0.67, 0.67), Resampling())
    first = resize(image[0, 0].astype(float), (9, 9), 3, mode="edge", anti_aliasing=False)
    assert np.allclose(found[0, :2], first, atol=1e-6)


def test_labels_go_where_their_mask_is_highest_and_ties_to_the_nearest():
    labels = np.zeros((1, 1, 4), np.int16)
    labels[..., 2:] = 5
    # at 1/2 voxel: 0, 0, 0, 0.25, 0.75, … of label 5
    found = resample_labels(labels, (1, 1, 8), (1, 1, 1), (1, 1, 0.5), LINEAR)
    assert found[0, 0].tolist() == [0, 0, 0, 0, 5, 5, 5, 5]
    # one voxel for two: 1/2 each; the nearest of voxels 0 and 1 at 0.5 is 1
    edge = np.array([[[0, 3]]], np.int16)
    assert resample_labels(edge, (1, 1, 1), (1, 1, 1), (1, 1, 2), LINEAR).item() == 3


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 1.0, 1.0), (1.0, 1.0, 5.0)])
@pytest.mark.parametrize("shape", [(9, 10, 11), (3, 14, 5)])
def test_logits_plane_by_plane_as_all_at_once(axis, spacing, shape):
    scores = torch.randn(2, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    slabs = [
        OutputChunk.of_planes(scores.narrow(1 + axis, i, 1), i, axis) for i in range(scores.shape[1 + axis])
    ]
    pieces = list(regrid_logits(slabs, (6, 7, 8), shape, spacing, (1, 1, 1), LINEAR))
    found = torch.cat([p.tensor for p in pieces], dim=1 + axis).numpy()
    assert [p.start for p in pieces] == sorted({p.start for p in pieces})
    expected = resample_image(scores.numpy(), shape, spacing, (1, 1, 1), LINEAR)
    assert np.allclose(found, expected, atol=1e-5)


def test_the_nonzero_part_includes_its_holes():
    array = np.zeros((1, 7, 6, 5), np.float32)  # X, Y, Z
    array[0, 1:6, 1:4, 1:4] = 3
    array[0, 3, 2, 2] = 0  # a hole
    found = crop(scan(array), stage())
    assert found.shape == (3, 3, 5)  # Z, Y, X
    assert found.inside.all()
    assert found.box == (slice(1, 4), slice(1, 4), slice(1, 6))
    back = restore_crop(np.ones((1, *found.shape), np.uint8), found, stage(), scan(array))
    assert back[0].sum() == 45
    assert back[0, 1:6, 1:4, 1:4].all()


def test_a_scan_of_zeros_is_kept_whole():
    assert crop(scan(np.zeros((1, 3, 4, 5), np.float32)), stage()).shape == (5, 4, 3)


def test_axes_are_transposed_and_back():
    array = np.arange(1, 61, dtype=np.float32).reshape(1, 3, 4, 5)
    turned = stage(transpose_forward=[2, 0, 1])
    found = crop(scan(array, np.diag([1.0, 2, 3, 1])), turned)
    assert found.shape == (3, 5, 4)  # X, Z, Y
    assert found.spacing == (1.0, 3.0, 2.0)
    back = restore_crop(found.image.astype(np.int16), found, turned, scan(array))
    assert np.array_equal(back, array)


def test_the_file_is_turned_where_the_plans_reader_turns_it(tmp_path):
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    array = np.arange(1, 61, dtype=np.float32).reshape(3, 4, 5)
    nib.save(nib.Nifti1Image(array.transpose(1, 0, 2), affine[:, [1, 0, 2, 3]]), tmp_path / "turned.nii")
    given = read_scan(tmp_path / "turned.nii")
    ras = stage(image_reader_writer="NibabelIOWithReorient")
    found = crop(given, ras)
    assert found.spacing == (3.0, 2.0, 1.0)  # Z, Y, X
    assert np.array_equal(found.image[0], array[::-1].transpose(2, 1, 0))  # X runs from left to right
    assert np.array_equal(restore_crop(found.image, found, ras, given), given.array)


def test_intensities_by_hand():
    values = np.array([[[0, 2, 4, 100]]], np.float32)
    everywhere = np.ones(values.shape, bool)
    ct = Normalization(scheme="ct", low=1, high=9, mean=5, std=2)
    assert normalize(values, ct, everywhere).ravel().tolist() == [-2, -1.5, -0.5, 2]
    inside = values > 0
    masked = normalize(values[..., :3], Normalization(scheme="zscore", masked=True), inside[..., :3])
    assert masked.ravel().tolist() == [0, -1, 1]  # mean 3, deviation 1 inside
    small = values[..., :3]
    whole = normalize(small, Normalization(scheme="zscore"), everywhere).ravel()
    assert np.allclose(whole, [-(1.5**0.5), 0, 1.5**0.5])  # mean 2, variance 8 / 3
    assert normalize(small, Normalization(scheme="range"), everywhere).ravel().tolist() == [0, 0.5, 1]
    assert normalize(values, Normalization(scheme="none"), everywhere) is values
    rgb = normalize(values, Normalization(scheme="rgb"), everywhere)
    assert rgb.ravel()[-1] == pytest.approx(100 / 255)
    with pytest.raises(DataError, match="takes 0 to 255"):
        normalize(-values, Normalization(scheme="rgb"), everywhere)


def test_the_previous_stages_labels_become_channels():
    before = configuration(previous_stage="3d_lowres")
    where = Path("plans.json")
    plan = parse(Plans, plans({"3d_fullres": before}), where)
    second = read_stage(plan, parse(Dataset, dataset(), where), TRAINING, where)
    array = np.random.default_rng(0).normal(5, 1, (1, 4, 4, 4)).astype(np.float32)
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 2, 3], labels[0, 0, 0] = 1, 2
    found = prepare(crop(scan(array), second), second, labels)
    assert found.dtype == np.float32
    assert found.shape == (3, 4, 4, 4)
    assert np.array_equal(found[1:], np.stack([labels == 1, labels == 2]))


def test_other_scans_are_refused():
    with pytest.raises(DataError, match="has 2 channels, expected 1"):
        crop(scan(np.ones((2, 3, 3, 3), np.float32)), stage())
    with pytest.raises(DataError, match="a volume; this model takes pictures"):
        crop(scan(np.ones((1, 3, 3, 3), np.float32)), stage(image_reader_writer="NaturalImage2DIO"))


def test_the_bell_of_a_window():
    weight = window_weights((8, 16))
    assert weight[4, 8] == 10  # the middle is voxel size // 2
    # one voxel off along 8: exp(-1 / 2), in half precision
    assert weight[5, 8] == pytest.approx(10 * np.exp(-0.5), rel=1e-3)
    assert weight[3, 8] == weight[5, 8]
    assert torch.equal(weight, weight.half().float())
    assert window_weights((64, 64, 64)).min() > 0
