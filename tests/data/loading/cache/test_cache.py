import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_balls, write_volume

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import Measuring, collect_statistics, measure_case
from medseg.data.io.readers import read_scan
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache import cached_cases as cache_module
from medseg.data.loading.cache.cached_cases import CachedCase, cache_cases
from medseg.data.loading.cache.settings import CacheSettings
from medseg.data.preprocessing.normalization import CT, Range
from medseg.data.preprocessing.pipeline import PreprocessConfig, prepare_image
from medseg.errors import DataError, DiskFullError, NotWritableError
from medseg.progress import QuietProgress

LABELS = LabelSchema(names={"background": (0,), "organ": (1, 3), "lesion": (2,)}, ignore_value=9)
PLAIN = PreprocessConfig(normalize=Range(low=0, high=100))


@pytest.fixture
def case(tmp_path):
    rng = np.random.default_rng(0)
    label = rng.choice([0, 1, 2, 3, 9], size=(4, 5, 6)).astype(np.uint8)
    affine = np.diag([-1.0, 2, 3, 1])
    write_volume(tmp_path / "a.nii.gz", rng.integers(0, 100, (4, 5, 6)).astype(np.int16), affine)
    write_volume(tmp_path / "a_label.nii.gz", label, affine)
    return Case("a", tmp_path / "a.nii.gz", tmp_path / "a_label.nii.gz")


def cached(case, folder, labels=LABELS, preprocess=PLAIN, channels=1):
    return cache_cases([case], [measure_case(case)], CacheSettings(labels, preprocess, channels), folder)[0]


def test_a_cached_case_contains_image_and_codes(case, tmp_path):
    opened = cached(case, tmp_path / "cache")
    raw = {name: np.asarray(read_scan(path).array[0]) for name, path in (("i", case.image), ("l", case.label))}
    # the first axis runs to the left and is flipped
    np.testing.assert_allclose(np.asarray(opened.image)[0], raw["i"][::-1] / 100, rtol=1e-6)
    codes = np.select([raw["l"] == 9, raw["l"] == 0, raw["l"] == 2], [0, 1, 3], 2)[::-1]
    assert np.array_equal(opened.label, codes)
    assert (opened.shape, opened.spacing) == ((4, 5, 6), (1, 2, 3))
    assert opened.counts == tuple(int((codes == c).sum()) for c in range(4))
    assert sum(opened.counts) == 120


def test_arrays_are_memory_mapped(case, tmp_path):
    opened = cached(case, tmp_path / "cache")
    assert not opened.label.flags.owndata
    assert not opened.label.flags.writeable
    assert opened.image.dtype == np.asarray(opened.image).dtype == np.float32
    assert opened.label.dtype == np.uint8


def test_a_cached_case_pickles_without_its_maps(case, tmp_path):
    opened = cached(case, tmp_path / "cache")
    closed = len(pickle.dumps(opened))
    np.asarray(opened.image), opened.label, opened.draw_voxel(1, np.random.default_rng(0))
    assert len(pickle.dumps(opened)) == closed
    again = pickle.loads(pickle.dumps(opened))
    assert again == opened
    assert np.array_equal(np.asarray(again.image), np.asarray(opened.image))


def test_drawn_voxels_belong_to_their_class(case, tmp_path):
    opened = cached(case, tmp_path / "cache")
    rng = np.random.default_rng(0)
    for class_index in range(3):
        drawn = {opened.draw_voxel(class_index, rng) for _ in range(600)}
        assert all(opened.label[voxel] == class_index + 1 for voxel in drawn)
        assert len(drawn) == opened.counts[class_index + 1]  # all of them are drawn


def test_a_second_run_prepares_nothing(case, tmp_path, monkeypatch):
    first = cached(case, tmp_path / "cache")
    monkeypatch.setattr(cache_module, "_prepare", lambda *_: pytest.fail("prepared again"))
    assert cached(case, tmp_path / "cache") == first


def key_of(case, tmp_path, **changes):
    return cached(case, tmp_path / "cache", **changes).file.path.name


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocess": PreprocessConfig()},
        {"preprocess": PLAIN.model_copy(update={"orientation": "native"})},
        {"preprocess": PLAIN.model_copy(update={"spacing": (2, 2, 2)})},
        {"labels": LabelSchema(names={"background": (0,), "organ": (1,), "lesion": (2, 3)}, ignore_value=9)},
        {"labels": LabelSchema(names={"background": (0,), "lesion": (2,), "organ": (1, 3)}, ignore_value=9)},
        {"labels": LabelSchema(names={"background": (0,), "organ": (1, 3), "lesion": (2, 9)})},
        {"labels": LabelSchema(names={"background": (0,), "organ": (1,)}, collapse_instances=True)},
    ],
)
def test_other_settings_or_labels_have_another_file(case, tmp_path, changes):
    assert key_of(case, tmp_path, **changes) != key_of(case, tmp_path)


@pytest.mark.parametrize("which", ["image", "label"])
def test_other_content_has_another_file(case, tmp_path, which):
    before = key_of(case, tmp_path)
    path = getattr(case, which)
    write_volume(path, np.ones((4, 5, 6), np.uint8), np.diag([-1.0, 2, 3, 1]))
    assert key_of(case, tmp_path) != before


def test_equal_content_shares_a_file(case, tmp_path):
    before = key_of(case, tmp_path)
    renamed = case.image.rename(tmp_path / "b.nii.gz")
    twin = Case("b", renamed, case.label)
    assert key_of(twin, tmp_path) == before
    assert cached(twin, tmp_path / "cache").id == "b"


def test_another_version_has_another_file(case, tmp_path, monkeypatch):
    before = key_of(case, tmp_path)
    monkeypatch.setattr("medseg.data.loading.cache.settings.CACHE_VERSION", 999)
    assert key_of(case, tmp_path) != before


def test_an_interrupted_file_is_not_used(case, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    replace = Path.replace

    def interrupted(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(case, folder)
    monkeypatch.setattr(Path, "replace", replace)
    assert list(folder.iterdir()) == []
    assert cached(case, folder).counts


@pytest.mark.parametrize("length", [0, 5, 300, -1])
def test_a_truncated_file_is_prepared_again(case, tmp_path, length):
    opened = cached(case, tmp_path / "cache")
    whole = opened.file.path.read_bytes()
    opened.file.path.write_bytes(whole[:length])
    again = cached(case, tmp_path / "cache")
    assert again == opened
    assert again.file.path.read_bytes() == whole
    assert np.asarray(again.image).shape == (1, 4, 5, 6)


def test_folds_with_different_windows_share_a_file(case, tmp_path):
    windows = [CT(low=0, high=50, mean=20, std=9), CT(low=5, high=40, mean=21, std=8)]
    folds = [cached(case, tmp_path / "c", preprocess=PreprocessConfig(normalize=ct)) for ct in windows]
    assert len(list((tmp_path / "c").iterdir())) == 1
    raw = read_scan(case.image).array[:, ::-1]
    for fold, ct in zip(folds, windows, strict=True):
        assert np.array_equal(np.asarray(fold.image), ct(raw))  # the same bits as in inference


def test_images_take_one_or_two_bytes_per_voxel(case, tmp_path):
    for name, config, dtype, error in (
        ("whole", PreprocessConfig(), np.uint8, 1e-6),  # 0 to 99
        ("resampled", PreprocessConfig(spacing=(1, 1, 1)), np.uint16, 1 / 2048),
        ("deferred", PLAIN.model_copy(update={"spacing": (1, 1, 1)}), np.uint16, 1 / 32 / 100),
    ):
        opened = cached(case, tmp_path / name, preprocess=config)
        expected = prepare_image(read_scan(case.image), config, 1).array
        assert opened.file["image"].dtype == dtype
        assert np.abs(np.asarray(opened.image) - expected).max() <= error
        np.testing.assert_array_equal(np.asarray(opened.image[:, 1:3, 2]), np.asarray(opened.image)[:, 1:3, 2])


def test_a_full_disk_is_detected_before_preparation(case, tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.data.loading.cache.settings.free_space", lambda folder: 100)
    monkeypatch.setattr(cache_module, "_prepare", lambda *_: pytest.fail("prepared nevertheless"))
    with pytest.raises(DiskFullError, match=r"need about .* GiB free.*data\.cache"):
        cached(case, tmp_path / "cache")


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (
            errno.ENOSPC,
            DiskFullError,
            r"cache: no space .* MiB free\)\. Free some space, or set data\.cache",
        ),
        (
            errno.EROFS,
            NotWritableError,
            r"cache: cannot be written to \(Read-only .*\). Set data\.cache",
        ),
    ],
)
def test_an_unwritable_cache_is_reported(case, tmp_path, monkeypatch, number, kind, message):
    def fail(path, target):
        raise OSError(number, os.strerror(number))

    statistics = [measure_case(case)]
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(kind, match=message):
        cache_cases([case], statistics, CacheSettings(LABELS, PLAIN, 1), tmp_path / "cache")
    with pytest.raises(kind, match=message.replace("cache:", "facts:")):
        collect_statistics([case], tmp_path / "cache" / "facts")
    assert [path.name for path in (tmp_path / "cache").rglob("*")] == ["facts"]


def test_a_case_prepared_by_another_process_is_used(case, tmp_path, monkeypatch):
    first = cached(case, tmp_path / "cache")
    monkeypatch.setattr(cache_module, "_prepare", lambda *_: pytest.fail("prepared again"))
    settings = CacheSettings(LABELS, PLAIN, 1)
    assert cache_module._prepare_into((case, first.file.path), settings) == first.file


FRESH = """
import sys
from pathlib import Path
import numpy as np
from medseg.data.loading.cache.cached_cases import cache_cases
from medseg.data.loading.cache.settings import CacheSettings
from medseg.data.cases import Case
from medseg.data.curation.case_statistics import collect_statistics
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig, prepare_image
root = Path(sys.argv[1])
cases = [Case(p.name[:-7], p, root / "labels" / p.name) for p in sorted((root / "images").iterdir())]
settings = CacheSettings(LabelSchema(names={"bg": (0,), "ball": (1,), "core": (2,)}), PreprocessConfig(), 1)
print("ready", flush=True)
for number in sys.stdin:
    folder = root / f"cache{number.strip()}"
    opened = cache_cases(cases, collect_statistics(cases, folder / "facts"), settings, folder)
    print(sum(float(np.asarray(case.image).std()) for case in opened), flush=True)
"""


@pytest.mark.slow
def test_three_trainings_fill_one_cache_at_the_same_time(tmp_path):
    root = write_balls(tmp_path, cases=24, size=14)
    command = [sys.executable, "-c", FRESH, str(root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    trainings = [subprocess.Popen(command, **pipes) for _ in range(3)]
    try:
        assert [one.stdout.readline() for one in trainings] == ["ready\n"] * 3
        for number in range(4):
            for one in trainings:
                one.stdin.write(f"{number}\n")
                one.stdin.flush()
            sums = [one.stdout.readline() for one in trainings]
            assert float(sums[0]) == pytest.approx(24, rel=1e-3)
            assert sums[1:] == sums[:1] * 2
            names = [path.name for path in (root / f"cache{number}").iterdir()]
            assert len(names) == 25  # no temporary files
    finally:
        for one in trainings:
            one.communicate()
    assert [one.returncode for one in trainings] == [0, 0, 0]


MANY = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import numpy as np
from medseg.data.augmentation import augmentation_preset
from medseg.data.loading.cache.cached_cases import write_cached_case
from medseg.data.loading.loader import LoaderOptions, patch_batches
from medseg.data.loading.sampling.patch_sampler import PatchSampler
from medseg.data.loading.sampling.patch_dataset import PatchDataset
from medseg.data.loading.sampling.options import SamplingConfig
root, number = Path(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
cases = []
for i in range(number):
    codes = rng.integers(1, 3, (8, 8)).astype(np.uint8)
    cases.append(write_cached_case(root / str(i), np.full((1, 8, 8), i, np.float32), codes, 2, (1, 1)))
config = SamplingConfig(patch_size=(8, 8), forced_share=0.0)
dataset = PatchDataset(cases, PatchSampler(cases, ("a", "b"), config, 0), augmentation_preset("none"), number)
for workers in (0, 1):
    batches = patch_batches(dataset, LoaderOptions(50, 0, number // 50, workers))
    seen = {int(value) for batch in batches for value in batch["image"][:, 0, 0, 0]}
    assert seen == set(range(number)), len(seen)
kept = [case.label for case in cases[:100]]
print("trained on all of them")
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [400, pytest.param(5000, marks=pytest.mark.exhaustive)])
def test_thousands_of_cases_train_with_few_open_files(tmp_path, number):
    pytest.importorskip("resource")
    command = [sys.executable, "-c", MANY, str(tmp_path), str(number)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "trained on all of them\n"


def test_errors_name_the_case(case, tmp_path):
    few = LabelSchema(names={"background": (0,), "organ": (1,)})
    with pytest.raises(DataError, match=r"case a: .*a_label\.nii\.gz: undeclared label values: 2, 3, 9"):
        cached(case, tmp_path / "cache", labels=few)
    with pytest.raises(DataError, match=r"case a: .*has 1 channels, expected 3"):
        cached(case, tmp_path / "cache", channels=3)
    with pytest.raises(DataError, match="case a: has no label map"):
        cached(Case("a", case.image), tmp_path / "cache")


class Counted(QuietProgress):
    advanced = 0

    def advance(self, detail=""):
        self.advanced += 1


def test_cases_are_returned_in_the_given_order(case, tmp_path):
    twin = Case("z", case.image, case.label)
    progress = Counted()
    pairs = [twin, case, twin]
    settings = CacheSettings(LABELS, PLAIN, 1)
    opened = cache_cases(pairs, [measure_case(c) for c in pairs], settings, tmp_path / "c", progress)
    assert [c.id for c in opened] == ["z", "a", "z"]
    assert progress.advanced == 1  # the others are the same file
    assert all(isinstance(c, CachedCase) for c in opened)


def test_objects_of_undeclared_labels_are_left_out(case, tmp_path):
    labels = LabelSchema(names={"background": (0,), "organ": (1,)}, others="background", ignore_value=9)
    reader = LabelReader(values={"organ": 1}, instances="components", kept_values=(0, 9))
    settings = CacheSettings(labels, PLAIN, 1, reader)
    opened = cache_cases([case], [measure_case(case, Measuring(reader))], settings, tmp_path / "cache")[0]
    assert (np.asarray(opened.label) == 2).any()
    assert np.array_equal(np.asarray(opened.objects) > 0, np.asarray(opened.label) == 2)
