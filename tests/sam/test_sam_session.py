"""Prompts on pictures and volumes, with a stand-in for the network."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from sam_double import BrightRegions

from medseg.data.io import read_scan
from medseg.errors import DataError
from medseg.prompts import Box, Lasso, Point, Promptable, PromptSession, Scribble
from medseg.sam import PropagationOptions, Sam, SamOptions, automatic_masks


@pytest.fixture
def picture():
    """64 × 64 with two bright squares."""
    array = np.zeros((64, 64), np.uint8)
    array[8:24, 8:24] = 255
    array[40:60, 30:60] = 255
    return array


@pytest.fixture
def volume():
    """A bright cone along the last axis, in slices 3 to 8, beside a bar in all slices."""
    array = np.zeros((64, 64, 12), np.float32)
    for index in range(3, 9):
        array[14 - index : 27 + index, 14 - index : 27 + index, index] = 100
    array[50:60, 50:60] = 100
    return array


def test_promptable():
    sam = Sam(BrightRegions())
    assert isinstance(sam, Promptable)
    assert isinstance(sam.open(np.zeros((8, 8), np.uint8)), PromptSession)


def test_points_on_a_picture(picture):
    session = Sam(BrightRegions()).open(picture)
    assert not session.mask.any()
    first = session.add(Point((10, 20)))
    assert first.sum() == 16 * 16
    assert first[8:24, 8:24].all()
    both = session.add(Point((50, 50)))
    assert both.sum() == 16 * 16 + 20 * 30
    assert session.add(Point((10, 10), positive=False)).sum() == 20 * 30
    assert len(session.prompts) == 3
    np.testing.assert_array_equal(session.undo(), both)
    session.undo()
    np.testing.assert_array_equal(session.mask, first)
    session.undo()
    assert not session.undo().any()
    assert session.prompts == ()


def test_one_point_is_ambiguous_and_later_prompts_refine_the_mask(picture):
    network = BrightRegions()
    session = Sam(network).open(picture)
    session.add(Point((10, 10)))
    session.add(Box((40, 30), (60, 60)))
    assert network.prompts[0].masks is None
    assert network.prompts[1].masks is not None
    assert network.prompts[1].boxes is not None
    assert network.prompts[1].boxes[0].tolist() == [30, 40, 59, 59]  # x first, the last pixel is inside
    assert network.embedded == 1


def test_scribbles_become_points(picture):
    network = BrightRegions()
    session = Sam(network, SamOptions(scribble_points=4)).open(picture)
    line = np.stack([np.full(16, 12), np.arange(8, 24)], axis=1)
    assert session.add(Scribble(line)).sum() == 256
    points = network.prompts[0].points[0].numpy()
    assert points.shape == (4, 2)
    assert {8.0, 23.0} <= set(points[:, 0].tolist())  # both ends are among them
    session.add(Scribble(line, positive=False))
    assert not session.mask.any()


def test_lasso_becomes_mask_and_box(picture):
    network = BrightRegions()
    session = Sam(network).open(picture)
    around = np.array([[5, 5], [5, 15], [26, 15], [26, 5]])
    assert session.add(Lasso(around)).sum() == 16 * 8  # columns 8 to 15 of the square
    prompts = network.prompts[0]
    assert prompts.boxes[0].tolist() == [5, 5, 15, 26]
    assert (prompts.masks[0, 0] > 0).sum() == 11 * 22
    cut = np.array([[5, 5], [5, 10], [26, 10], [26, 5]])
    assert not session.add(Lasso(cut, positive=False))[:, :11].any()


def test_only_negative_prompts_leave_the_mask_empty(picture):
    network = BrightRegions()
    session = Sam(network).open(picture)
    assert not session.add(Point((10, 10), positive=False)).any()
    assert network.prompts == []


def test_propagation_through_a_volume(volume):
    session = Sam(BrightRegions()).open(volume, spacing=(1, 1, 1))
    mask = session.add(Point((20, 20, 6)))
    expected = volume > 0
    expected[50:60, 50:60] = False
    np.testing.assert_array_equal(mask, expected)  # stops before the empty slices 2 and 9
    assert sorted(session.predicted_iou) == [3, 4, 5, 6, 7, 8]


def test_box_over_several_slices_limits_propagation(volume):
    session = Sam(BrightRegions()).open(volume, spacing=(1, 1, 1))
    mask = session.add(Box((9, 9, 4), (32, 32, 8)))
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [4, 5, 6, 7]


def test_correction_of_a_propagated_slice_reaches_its_neighbors(volume):
    volume[40:44, 40:44, 3:9] = 100
    loose = SamOptions(propagation=PropagationOptions(min_iou=0, max_drop=1))
    session = Sam(BrightRegions(), loose).open(volume, spacing=(1, 1, 1))
    before = session.add(Point((20, 20, 4)))
    after = session.add(Point((41, 41, 8)))
    assert not before[41, 41].any()
    assert after[41, 41].tolist() == [False] * 7 + [True] * 2 + [False] * 3  # 5 and 6 are nearer to slice 4
    assert after[20, 20].tolist() == before[20, 20].tolist()
    np.testing.assert_array_equal(session.undo(), before)


def test_without_propagation(volume):
    session = Sam(BrightRegions(), SamOptions(propagate=False)).open(volume, spacing=(1, 1, 1))
    assert np.flatnonzero(session.add(Point((20, 20, 6))).any(axis=(0, 1))).tolist() == [6]
    assert session.propagate().any(axis=(0, 1)).sum() == 6


def test_slices_are_cut_along_the_thickest_axis_or_that_of_a_flat_box(volume):
    sam = Sam(BrightRegions(), SamOptions(propagate=False))
    thick = sam.open(np.moveaxis(volume, 2, 0), spacing=(5, 1, 1))
    assert np.flatnonzero(thick.add(Point((6, 20, 20))).any(axis=(1, 2))).tolist() == [6]
    flat = sam.open(volume, spacing=(1, 1, 1))
    assert np.flatnonzero(flat.add(Box((20, 10, 2), (21, 30, 10))).any(axis=(1, 2))).tolist() == [20]


def test_axis_of_a_flat_box_ends_with_its_object(volume):
    session = Sam(BrightRegions(), SamOptions(propagate=False)).open(volume, spacing=(1, 1, 1))
    click = session.add(Point((20, 20, 6)))
    session.restart()
    session.add(Box((20, 10, 2), (21, 30, 10)))
    session.undo()
    np.testing.assert_array_equal(session.add(Point((20, 20, 6))), click)
    session.restart()
    session.add(Box((20, 10, 2), (21, 30, 10)))
    session.restart()
    np.testing.assert_array_equal(session.add(Point((20, 20, 6))), click)


def test_scan_in_memory(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert Sam(BrightRegions()).open(read_scan(tmp_path / "a.png")).add(Point((10, 10))).sum() == 256


def test_correction_of_a_given_mask(volume):
    session = Sam(BrightRegions()).open(volume, spacing=(1, 1, 1))
    start = volume > 0
    session.restart(start)
    np.testing.assert_array_equal(session.mask, start)
    mask = session.add(Point((55, 55, 4), positive=False))
    changed = np.flatnonzero((mask != start).any(axis=(0, 1)))
    assert changed.tolist() == [4]
    assert not mask[50:60, 50:60, 4].any()
    np.testing.assert_array_equal(session.undo(), start)
    session.restart()
    assert not session.mask.any()


def test_any_orientation_of_the_file(tmp_path, volume):
    """The same voxels stored in another order give the same mask, and prompts are voxels of the file."""
    affine = np.diag([-1.0, 1, 1, 1])[[2, 0, 1, 3]]
    affine[3] = (0, 0, 0, 1)
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(volume, affine), path)
    session = Sam(BrightRegions(), SamOptions(axis=2)).open(path)
    mask = session.add(Point((20, 20, 6)))
    assert mask[20, 20, 3:9].all()
    assert mask.sum() == sum((2 * k + 13) ** 2 for k in range(3, 9))
    saved = nib.load(session.save(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(np.asarray(saved.dataobj), mask)
    np.testing.assert_allclose(saved.affine, affine)


def test_picture_file(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    session = Sam(BrightRegions()).open(tmp_path / "a.png")
    session.add(Point((10, 10)))
    assert np.asarray(Image.open(session.save(tmp_path / "mask.png"))).sum() == 256
    with pytest.raises(DataError, match=r"a picture is written to a file that ends with \.png"):
        session.save(tmp_path / "mask.nii.gz")


def test_prompts_at_the_border_and_beyond(picture):
    session = Sam(BrightRegions()).open(picture)
    session.add(Box((-5, -5), (30, 30)))
    assert session.mask.sum() == 256
    with pytest.raises(DataError, match=r"scribble: the point \[50\.0, 200\.0\] lies outside"):
        session.add(Scribble(np.array([[50, 50], [50, 200], [-1, 3]])))
    session.add(Scribble(np.array([[50, 50], [64, 55], [-1, 3]])))  # two of the voxels lie beside the border
    assert session.mask.sum() == 256 + 600
    with pytest.raises(DataError, match=r"lasso: the point \[90\.0, 30\.0\] lies outside"):
        session.add(Lasso(np.array([[-1, 30], [90, 30], [64, 64], [-1, 64]]), positive=False))
    session.add(Lasso(np.array([[-1, 30], [64, 30], [64, 64], [-1, 64]]), positive=False))
    assert session.mask.sum() == 256
    session.add(Lasso(np.array([[10, 10], [10, 10.2], [10.2, 10]])))  # smaller than a pixel
    with pytest.raises(DataError, match="outside"):
        session.add(Point((10, 64)))


def test_prompts_of_other_axes(picture):
    session = Sam(BrightRegions()).open(picture)
    with pytest.raises(DataError, match="has 3 axes, the scan has 2"):
        session.add(Point((1, 2, 3)))
    with pytest.raises(DataError, match="mask of shape"):
        session.restart(np.zeros((3, 3), bool))


def test_arrays_that_are_no_scans(picture, volume):
    sam = Sam(BrightRegions())
    assert sam.open(picture[None]).scan.kind == "picture"
    with pytest.raises(DataError, match=r"a volume without spacing\. Pass spacing="):
        sam.open(volume)
    with pytest.raises(DataError, match="expected the numbers of a volume"):
        sam.open(np.zeros(3))


def test_automatic_masks(picture):
    found = automatic_masks(Sam(BrightRegions()), picture)
    assert len(found) == 2  # each region is proposed at many points of the grid
    assert sorted(found.voxels.tolist()) == [256, 600]
    assert found.scores.tolist() == pytest.approx([0.95, 0.95])
    np.testing.assert_array_equal(found.label_map() > 0, picture > 0)


def test_automatic_masks_of_a_volume(volume):
    with pytest.raises(DataError, match="need a picture"):
        automatic_masks(Sam(BrightRegions()), volume)
