import pickle

import numpy as np
import pytest
from conftest import write_volume

from medseg.data import cache as cache_module
from medseg.data.cache import CachedCase, cache_cases, index_voxels
from medseg.data.cases import Case
from medseg.data.facts import measure
from medseg.data.labels import Labels
from medseg.data.normalise import CT, Range
from medseg.data.preprocess import PreprocessConfig
from medseg.data.readers import read_scan
from medseg.errors import DataError

LABELS = Labels(names={"background": (0,), "organ": (1, 3), "lesion": (2,)}, ignore_value=9)
PLAIN = PreprocessConfig(normalise=Range(low=0, high=100))


@pytest.fixture
def case(tmp_path):
    rng = np.random.default_rng(0)
    label = rng.choice([0, 1, 2, 3, 9], size=(4, 5, 6)).astype(np.uint8)
    affine = np.diag([-1.0, 2, 3, 1])
    write_volume(tmp_path / "a.nii.gz", rng.integers(0, 100, (4, 5, 6)).astype(np.int16), affine)
    write_volume(tmp_path / "a_label.nii.gz", label, affine)
    return Case("a", tmp_path / "a.nii.gz", tmp_path / "a_label.nii.gz")


def cached(case, folder, labels=LABELS, preprocess=PLAIN, channels=1):
    return cache_cases([case], [measure(case)], labels, preprocess, channels=channels, folder=folder)[0]


def test_a_cached_case_holds_image_and_codes(case, tmp_path):
    opened = cached(case, tmp_path / "cache")
    raw = {name: np.asarray(read_scan(path).array[0]) for name, path in (("i", case.image), ("l", case.label))}
    # the first axis ran to the left and is turned round
    np.testing.assert_allclose(opened.image[0], raw["i"][::-1] / 100, rtol=1e-6)
    codes = np.select([raw["l"] == 9, raw["l"] == 0, raw["l"] == 2], [0, 1, 3], 2)[::-1]
    assert np.array_equal(opened.label, codes)
    assert (opened.shape, opened.spacing) == ((4, 5, 6), (1, 2, 3))
    assert opened.counts == tuple(int((codes == c).sum()) for c in range(4))
    assert sum(opened.counts) == 120


def test_arrays_are_memory_mapped(case, tmp_path):
    opened = cached(case, tmp_path / "cache")
    for array in (opened.image, opened.label):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    assert opened.image.dtype == np.float32
    assert opened.label.dtype == np.uint8


def test_a_cached_case_pickles_without_its_maps(case, tmp_path):
    opened = cached(case, tmp_path / "cache")
    closed = len(pickle.dumps(opened))
    opened.image, opened.label, opened.draw_voxel(1, np.random.default_rng(0))
    assert len(pickle.dumps(opened)) == closed
    again = pickle.loads(pickle.dumps(opened))
    assert not {"image", "label", "_voxels"} & set(vars(again))
    assert again == opened
    assert np.array_equal(again.image, opened.image)


def test_drawn_voxels_hold_their_class(case, tmp_path):
    opened = cached(case, tmp_path / "cache")
    rng = np.random.default_rng(0)
    for cls in range(3):
        drawn = {opened.draw_voxel(cls, rng) for _ in range(600)}
        assert all(opened.label[voxel] == cls + 1 for voxel in drawn)
        assert len(drawn) == opened.counts[cls + 1]  # each is drawn some time


def test_a_second_run_prepares_nothing(case, tmp_path, monkeypatch):
    first = cached(case, tmp_path / "cache")
    monkeypatch.setattr(cache_module, "_prepare", lambda *_: pytest.fail("prepared again"))
    assert cached(case, tmp_path / "cache") == first


def key_of(case, tmp_path, **changes):
    return cached(case, tmp_path / "cache", **changes).folder.name


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocess": PreprocessConfig(normalise=Range(low=0, high=99))},
        {"preprocess": PreprocessConfig()},
        {"preprocess": PreprocessConfig(normalise=CT(low=0, high=1, mean=0, std=1))},
        {"preprocess": PLAIN.model_copy(update={"orientation": "native"})},
        {"preprocess": PLAIN.model_copy(update={"spacing": (2, 2, 2)})},
        {"labels": Labels(names={"background": (0,), "organ": (1,), "lesion": (2, 3)}, ignore_value=9)},
        {"labels": Labels(names={"background": (0,), "lesion": (2,), "organ": (1, 3)}, ignore_value=9)},
        {"labels": Labels(names={"background": (0,), "organ": (1, 3), "lesion": (2, 9)})},
        {"labels": Labels(names={"background": (0,), "organ": (1,)}, collapse_instances=True)},
    ],
)
def test_other_settings_or_labels_have_another_place(case, tmp_path, changes):
    assert key_of(case, tmp_path, **changes) != key_of(case, tmp_path)


@pytest.mark.parametrize("which", ["image", "label"])
def test_other_content_has_another_place(case, tmp_path, which):
    before = key_of(case, tmp_path)
    path = getattr(case, which)
    write_volume(path, np.ones((4, 5, 6), np.uint8), np.diag([-1.0, 2, 3, 1]))
    assert key_of(case, tmp_path) != before


def test_the_same_content_shares_its_place(case, tmp_path):
    before = key_of(case, tmp_path)
    renamed = case.image.rename(tmp_path / "b.nii.gz")
    twin = Case("b", renamed, case.label)
    assert key_of(twin, tmp_path) == before
    assert cached(twin, tmp_path / "cache").id == "b"


def test_another_version_has_another_place(case, tmp_path, monkeypatch):
    before = key_of(case, tmp_path)
    monkeypatch.setattr(cache_module, "CACHE_VERSION", 999)
    assert key_of(case, tmp_path) != before


def test_an_interrupted_folder_is_not_used(case, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    save = np.save

    def interrupted(path, array):
        save(path, array)
        if path.name == "label.npy":
            raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(case, folder)
    monkeypatch.undo()
    assert list(folder.iterdir()) == []
    assert cached(case, folder).counts


def test_an_incomplete_folder_is_made_anew(case, tmp_path):
    opened = cached(case, tmp_path / "cache")
    (opened.folder / "case.json").unlink()
    (opened.folder / "image.npy").write_bytes(b"half")
    again = cached(case, tmp_path / "cache")
    assert again == opened
    assert again.image.shape == (1, 4, 5, 6)


def test_errors_name_the_case(case, tmp_path):
    few = Labels(names={"background": (0,), "organ": (1,)})
    with pytest.raises(DataError, match=r"case a: .*a_label\.nii\.gz: label values nobody named: 2, 3, 9"):
        cached(case, tmp_path / "cache", labels=few)
    with pytest.raises(DataError, match=r"case a: .*has 1 channels, expected 3"):
        cached(case, tmp_path / "cache", channels=3)
    with pytest.raises(DataError, match="case a: has no label map"):
        cached(Case("a", case.image), tmp_path / "cache")


def test_index_of_voxels_by_hand():
    codes = np.array([[2, 0, 2], [1, 2, 0]], np.uint8)
    voxels, counts, offsets = index_voxels(codes, 5)
    # code 0 at 1, 5; code 1 at 3; code 2 at 0, 2, 4; codes 3 and 4 nowhere
    assert voxels.tolist() == [1, 5, 3, 0, 2, 4]
    assert voxels.dtype == np.int64
    assert counts == [2, 1, 3, 0, 0]
    assert offsets == [0, 2, 3, 6, 6, 6]


def test_the_index_is_capped_and_spread(monkeypatch):
    monkeypatch.setattr(cache_module, "INDEX_CAP", 5)
    voxels, counts, offsets = index_voxels(np.repeat([1, 0], [101, 3]).astype(np.uint16).reshape(2, 52), 2)
    assert counts == [3, 101]
    assert offsets == [0, 3, 8]
    assert voxels.tolist() == [101, 102, 103, 0, 25, 50, 75, 100]


def test_cases_come_in_the_order_given(case, tmp_path):
    twin = Case("z", case.image, case.label)
    done = []
    pairs = [twin, case, twin]
    opened = cache_cases(
        pairs,
        [measure(c) for c in pairs],
        LABELS,
        PLAIN,
        channels=1,
        folder=tmp_path / "c",
        progress=done.append,
    )
    assert [c.id for c in opened] == ["z", "a", "z"]
    assert sorted(done) == ["a", "z", "z"]
    assert all(isinstance(c, CachedCase) for c in opened)
