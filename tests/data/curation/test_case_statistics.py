from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import write_picture, write_volume

from medseg.data.cases import Case
from medseg.data.curation import case_statistics as facts_module
from medseg.data.curation.case_statistics import collect_statistics, count_values, measure_case, total_counts
from medseg.errors import DataError, GeometryError
from medseg.files import sha256_file

RNG = np.random.default_rng(0)


def volume_case(root, name="a", image=None, label=None, affine=None, label_affine=None):
    image = RNG.integers(0, 99, (4, 5, 6)).astype(np.int16) if image is None else image
    label = np.zeros(image.shape[:3], np.uint8) if label is None else label
    write_volume(root / "images" / f"{name}.nii.gz", image, affine)
    write_volume(root / "labels" / f"{name}.nii.gz", label, affine if label_affine is None else label_affine)
    return Case(name, root / "images" / f"{name}.nii.gz", root / "labels" / f"{name}.nii.gz")


def picture_case(root, name="p", image=None, label=None):
    image = np.zeros((4, 5, 3), np.uint8) if image is None else image
    write_picture(root / "images" / f"{name}.png", image)
    write_picture(
        root / "labels" / f"{name}.png", np.zeros(image.shape[:2], np.uint8) if label is None else label
    )
    return Case(name, root / "images" / f"{name}.png", root / "labels" / f"{name}.png")


def test_a_volume_by_hand(tmp_path):
    label = np.zeros((4, 5, 6), np.uint8)
    label[1, 2, 3:5] = 7
    image = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    affine = np.array([[0.0, -2, 0, 0], [0, 0, 3, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    case = volume_case(tmp_path, image=image, label=label, affine=affine)
    facts = measure_case(case)
    # right runs along the second array axis (5 voxels, 2 mm), anterior along the third, superior the first
    assert (facts.shape, facts.spacing) == ((5, 6, 4), (2, 3, 1))
    assert (facts.kind, facts.channels) == ("volume", 1)
    assert facts.label_counts == {0: 118, 7: 2}
    # voxel (1, 2, 3) holds 1 · 30 + 2 · 6 + 3 = 45
    assert facts.foreground == (45, 46)
    assert facts.image_sha256 == sha256_file(case.image)
    assert facts.label_sha256 == sha256_file(tmp_path / "labels" / "a.nii.gz")


def test_a_picture_by_hand(tmp_path):
    image = np.stack([np.full((4, 5), v, np.uint8) for v in (1, 2, 3)], axis=-1)
    label = np.zeros((4, 5), np.uint8)
    label[0, :2] = 255
    facts = measure_case(picture_case(tmp_path, image=image, label=label))
    assert (facts.kind, facts.shape, facts.spacing, facts.channels) == ("picture", (4, 5), (1, 1), 3)
    assert facts.label_counts == {0: 18, 255: 2}
    assert facts.foreground == (1, 1, 2, 2, 3, 3)


def test_the_foreground_sample_is_bounded_and_spread(tmp_path):
    image = np.arange(4000, dtype=np.int16).reshape(10, 20, 20)
    facts = measure_case(volume_case(tmp_path, image=image, label=np.ones(image.shape, np.uint8)))
    assert len(facts.foreground) == 500
    assert (facts.foreground[0], facts.foreground[-1]) == (0, 3999)
    assert np.diff(facts.foreground).max() <= 9  # 3999 / 499 = 8.01


def test_a_case_without_label(tmp_path):
    case = volume_case(tmp_path)
    facts = measure_case(Case("a", case.image))
    assert (facts.label_sha256, facts.label_counts, facts.foreground) == (None, {}, ())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64])
def test_counts_of_values(dtype):
    values = np.array([[0, 3], [3, 120]]).astype(dtype)
    assert count_values(values) == {0: 1, 3: 2, 120: 1}
    assert count_values(np.array([[-1, 4]])) == {-1: 1, 4: 1}


def test_counts_of_all_cases(tmp_path):
    cases = [volume_case(tmp_path, n, label=np.full((4, 5, 6), v, np.uint8)) for n, v in (("a", 1), ("b", 2))]
    assert total_counts(collect_statistics(cases, tmp_path / "store")) == {1: 120, 2: 120}


def test_different_grids_are_reported_with_their_distance(tmp_path):
    shifted = np.eye(4)
    shifted[2, 3] = 1.25
    with pytest.raises(GeometryError, match=r"label grid differs from image: the grids are 1\.25 mm apart"):
        measure_case(volume_case(tmp_path, label_affine=shifted))
    with pytest.raises(GeometryError, match=r"shapes differ: 4×5×6 and 4×5×7 \(label b\.nii\.gz\)"):
        measure_case(volume_case(tmp_path, "b", label=np.zeros((4, 5, 7), np.uint8)))


def test_every_faulty_case_is_listed(tmp_path):
    holes = np.zeros((4, 5, 6), np.float32)
    holes[1, 2, 3] = np.nan
    moved = np.diag([1.0, 1, 1.5, 1])
    cases = [
        volume_case(tmp_path, "good"),
        volume_case(tmp_path, "hole", image=holes),
        volume_case(tmp_path, "moved", label_affine=moved),
        volume_case(tmp_path, "blurred", label=np.full((4, 5, 6), 0.5, np.float32)),
        volume_case(tmp_path, "broken"),
        Case("gone", tmp_path / "images" / "gone.nii.gz"),
    ]
    cases[4].image.write_bytes(b"not a scan")
    with pytest.raises(DataError) as caught:
        collect_statistics(cases, tmp_path / "store")
    first, *lines = str(caught.value).splitlines()
    assert first == "cases that cannot be used (5):"
    for line, (name, expected) in zip(
        lines,
        [
            ("hole", "1 voxels are NaN or infinite, the first at (1, 2, 3)"),
            ("moved", "label grid differs from image: the grids are 2.5 mm apart"),  # 5 steps of 0.5 mm more
            ("blurred", "label values must be whole numbers, got 0.5"),
            ("broken", "truncated or damaged"),
            ("gone", "no such file"),
        ],
        strict=True,
    ):
        assert line.startswith(f"  case {name}: ")
        assert expected in line


def test_mixed_datasets_raise(tmp_path):
    volume, picture = volume_case(tmp_path), picture_case(tmp_path)
    with pytest.raises(DataError, match="pictures and volumes are mixed in one dataset"):
        collect_statistics([volume, picture], tmp_path / "store")
    two = volume_case(tmp_path, "two", image=np.zeros((4, 5, 6, 2), np.int16))
    with pytest.raises(DataError, match="the cases differ in channels: a has 1, two has 2"):
        collect_statistics([volume, two], tmp_path / "store")
    gray = picture_case(tmp_path, "gray", image=np.zeros((4, 5), np.uint8))
    assert [f.channels for f in collect_statistics([gray, picture], tmp_path / "store")] == [1, 3]


def test_cached_statistics_are_reused(tmp_path, monkeypatch):
    cases = [volume_case(tmp_path, n) for n in ("a", "b")]
    first = collect_statistics(cases, tmp_path / "store")
    monkeypatch.setattr(
        facts_module, "measure_case", lambda case, _: pytest.fail(f"{case.id} was measured again")
    )
    assert collect_statistics(cases, tmp_path / "store") == first


@pytest.mark.parametrize("which", ["image", "label"])
def test_a_changed_file_is_measured_again(which, tmp_path):
    case = volume_case(tmp_path)
    before = collect_statistics([case], tmp_path / "store")[0]
    write_volume(getattr(case, which), np.full((4, 5, 6), 9, np.int16))
    after = collect_statistics([case], tmp_path / "store")[0]
    assert getattr(after, f"{which}_sha256") != getattr(before, f"{which}_sha256")


@pytest.mark.parametrize("content", ["{", "{}", '{"id": "a", "field_of_old": 1}'])
def test_statistics_of_another_version_are_measured_again(content, tmp_path):
    case = volume_case(tmp_path)
    first = collect_statistics([case], tmp_path / "store")
    (stored,) = (tmp_path / "store").iterdir()
    stored.write_text(content)
    assert collect_statistics([case], tmp_path / "store") == first


@pytest.mark.data
def test_real_volumes(data_root: Path, tmp_path):
    names = [f"hippocampus_{n}" for n in ("001", "003")]
    root = data_root / "hippocampus"
    cases = [Case(n, root / "images" / f"{n}.nii.gz", root / "labels" / f"{n}.nii.gz") for n in names]
    for case, facts in zip(cases, collect_statistics(cases, tmp_path), strict=True):
        assert set(facts.label_counts) == {0, 1, 2}
        image = nib.load(case.image)
        assert sorted(facts.shape) == sorted(image.shape)
        assert sum(facts.label_counts.values()) == np.prod(image.shape)
