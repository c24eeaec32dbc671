from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.demo.phantoms import LABELS, SIZE, SMALLEST, SPACING, make_phantom, write_phantoms
from medseg.errors import ConfigError

FOREGROUND = [name for name in LABELS if name != "background"]


def best_threshold_dice(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """The best Dice of a single threshold (above or below), and of any interval of gray values."""
    lowest = int(image.min())
    bins = int(image.max()) - lowest + 1
    inside = np.bincount(image[mask].astype(int) - lowest, minlength=bins)
    everywhere = np.bincount(image.ravel().astype(int) - lowest, minlength=bins)
    hit = np.concatenate([[0], np.cumsum(inside)])  # voxels of the mask below each gray value
    taken = np.concatenate([[0], np.cumsum(everywhere)])
    # entry (i, j): the interval that begins with the i-th gray value and ends before the j-th
    dice = 2 * (hit[None] - hit[:, None]) / np.maximum(taken[None] - taken[:, None] + hit[-1], 1)
    dice = np.triu(dice)
    return float(max(dice[0].max(), dice[:, -1].max())), float(dice.max())


@pytest.fixture(scope="module")
def phantoms():
    return [make_phantom(seed=0, index=index) for index in range(3)]


def read(path: Path) -> nib.Nifti1Image:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


def test_best_threshold_of_a_case_by_hand():
    # gray values 0 1 2 3, the mask is {1, 2}: [1, 2] is perfect; "at least 1" hits 2 of 3: 2*2 / (3 + 2)
    image, mask = np.array([0, 1, 2, 3]), np.array([False, True, True, False])
    assert best_threshold_dice(image, mask) == (pytest.approx(0.8), 1.0)


@pytest.mark.parametrize("name", FOREGROUND)
def test_intensity_thresholds_cannot_find_a_label(phantoms, name):
    for image, label, _ in phantoms:
        single, interval = best_threshold_dice(image, label == LABELS[name])
        assert single < 0.6
        assert interval < 0.6


def test_every_label_is_present_and_large_enough_to_learn(phantoms):
    for _, label, _ in phantoms:
        counts = np.bincount(label.ravel(), minlength=4)
        assert counts[LABELS["organ"]] > 3500
        assert counts[LABELS["vessel"]] > 800
        assert counts[LABELS["lesion"]] >= 150


def test_the_lesion_lies_within_the_organ_and_the_vessel_partly(phantoms):
    for _, label, _ in phantoms:
        where = [np.argwhere(label == value) for value in range(4)]
        assert (where[3].min(0) >= where[1].min(0)).all()
        assert (where[3].max(0) <= where[1].max(0)).all()
        assert where[2][:, 2].min() < where[1][:, 2].min()  # it begins below the organ
        assert where[2][:, 2].max() > where[1][:, 2].min() + 4  # and ends well inside


def test_the_organ_is_brighter_than_its_lesion_and_darker_than_its_vessel(phantoms):
    for image, label, _ in phantoms:
        organ, vessel, lesion = (image[label == value].mean() for value in (1, 2, 3))
        assert lesion + 25 < organ < vessel - 40


def test_cases_differ(phantoms):
    first, second, _ = phantoms
    assert (first[1] != second[1]).any()
    assert not np.allclose(first[2], second[2])


@pytest.mark.slow
def test_files_contain_the_arrays_on_one_oblique_grid(tmp_path):
    write_phantoms(tmp_path, cases=1, seed=3)
    image = read(tmp_path / "images" / "phantom_000.nii.gz")
    label = read(tmp_path / "labels" / "phantom_000.nii.gz")
    made_image, made_label, affine = make_phantom(3, 0)
    np.testing.assert_array_equal(np.asarray(image.dataobj), made_image)
    np.testing.assert_array_equal(np.asarray(label.dataobj), made_label)
    assert image.shape == label.shape == SIZE
    assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
    np.testing.assert_array_equal(image.affine, label.affine)
    np.testing.assert_allclose(image.affine, affine, atol=1e-3)
    for one in (image, label):
        assert (int(one.header["qform_code"]), int(one.header["sform_code"])) == (1, 1)
        np.testing.assert_allclose(one.get_qform(), one.get_sform(), atol=1e-3)
        np.testing.assert_allclose(one.header.get_zooms(), SPACING, rtol=1e-5)
        assert nib.orientations.aff2axcodes(one.affine) == ("L", "P", "S")
    off_diagonal = np.abs(image.affine[:3, :3] / SPACING - np.diag([-1, -1, 1]))
    assert off_diagonal.max() > 0.03  # oblique by more than 2 degrees


def test_bytes_depend_only_on_seed_and_index(tmp_path):
    write_phantoms(tmp_path / "few", cases=1, seed=5, size=SMALLEST)
    write_phantoms(tmp_path / "more", cases=2, seed=5, size=SMALLEST)
    for part in ("images", "labels"):
        few, more = (tmp_path / folder / part / "phantom_000.nii.gz" for folder in ("few", "more"))
        assert few.read_bytes() == more.read_bytes()
        assert len(list((tmp_path / "more" / part).iterdir())) == 2  # nothing temporary is left
    assert few.read_bytes()[4:8] == bytes(4)  # gzip's own time stamp


@pytest.mark.slow
def test_another_size_scales_the_anatomy():
    for size in (SMALLEST, (96, 80, 32)):
        image, label, _ = make_phantom(1, 0, size)
        assert image.shape == label.shape == size
        assert set(np.unique(label)) == {0, 1, 2, 3}


@pytest.mark.parametrize("wrong", [{"cases": 0}, {"seed": -1}, {"size": (16, 16, 4)}])
def test_invalid_arguments_are_errors(tmp_path, wrong):
    with pytest.raises(ConfigError, match="expected"):
        write_phantoms(tmp_path, **{"cases": 1, "seed": 0, **wrong})
    assert list(tmp_path.iterdir()) == []
