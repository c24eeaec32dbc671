"""Checks of sizes from the statistics of the cases, before anything is preprocessed."""

import numpy as np
import pytest
from conftest import ball_settings, write_balls, write_volume

from medseg.config.schema import load_config
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.loading.cache import cached_cases as cache_module
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError
from medseg.planning.measured.dry_run import dry_run
from medseg.progress import QuietProgress
from medseg.training.dataset.checks import check_patch_fits_cases, check_patch_size, preprocessed_shape
from medseg.training.dataset.preparation import cache_dataset, prepare_dataset
from medseg.training.fit import fit
from medseg.training.loop_setup import network_needs


def measured(shape, spacing=(1.0, 1.0, 1.0), kind="volume"):
    return CaseStatistics(
        id="a", image_sha256="", label_sha256=None, voxels_sha256="", kind=kind, shape=shape, spacing=spacing,
        channels=1, dtype="int16", label_dtype="uint8", intensities=(0, 1), label_counts={}, foreground=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("patch", "shapes"),
    [
        ((64, 64, 64), [(35, 51, 35)]),
        ((128, 128, 128), [(35, 51, 35)]),
        ((256, 256, 32), [(200, 240, 3)]),
        ((512, 512), [(9, 100, 100)]),
        ((128, 128, 128), [(10, 10, 10), (90, 90, 90)]),
    ],
)
def test_patches_padded_to_a_multiple_for_the_network_are_accepted(patch, shapes):
    check_patch_size(patch, shapes)


def test_the_preprocessed_shape_follows_from_the_statistics():
    volume = measured((100, 80, 20), (1.0, 1.0, 3.0))
    assert preprocessed_shape(volume, PreprocessConfig()) == (100, 80, 20)
    # 100 / 2, 80 / 2, 20 * 3 / 2
    assert preprocessed_shape(volume, PreprocessConfig(spacing=(2, 2, 2))) == (50, 40, 30)
    sliced = PreprocessConfig.model_validate({"slices": {"axis": 2}})
    assert preprocessed_shape(volume, sliced) == (20, 100, 80)
    assert preprocessed_shape(measured((90, 60), (1, 1), "picture"), PreprocessConfig()) == (90, 60)


@pytest.mark.parametrize("orientation", ["RAS", "native"])
@pytest.mark.parametrize("overrides", [[], ["preprocess.spacing=[2, 1, 1]"]])
def test_the_predicted_shape_is_that_of_the_cached_case(tmp_path, orientation, overrides):
    root = tmp_path / "data"
    affine = np.array([[0, 0, 2.0, 5], [-1, 0, 0, 6], [0, 1.5, 0, 7], [0, 0, 0, 1]])
    for i in range(5):
        label = np.zeros((18, 20 + i, 9), np.uint8)
        label[4:14, 5:15, 2:7] = 1
        label[5:8, 6:9, 3:5] = 2
        write_volume(root / "images" / f"c{i}.nii.gz", 100 * label.astype("i2"), affine)
        write_volume(root / "labels" / f"c{i}.nii.gz", label, affine)
    config = load_config(ball_settings(root), [f"preprocess.orientation={orientation}", *overrides])
    dataset = prepare_dataset(config.data, config.preprocess, network_needs(config), tmp_path / "store")
    cached = cache_dataset(dataset, tmp_path / "cache", QuietProgress())
    predicted = [preprocessed_shape(one, dataset.preprocess) for one in dataset.part("train")[1]]
    if orientation == "RAS":
        assert predicted == [case.shape for case in cached.train]
    elif not overrides:  # the order of native axes is unknown
        assert list(map(sorted, predicted)) == [sorted(case.shape) for case in cached.train]


def test_native_axes_are_compared_in_any_order():
    native = PreprocessConfig(orientation="native")
    check_patch_fits_cases((20, 400, 400), native, [measured((400, 400, 20))])
    with pytest.raises(ConfigError, match="at most 400×400×20"):
        check_patch_fits_cases((20, 400, 400), PreprocessConfig(), [measured((400, 400, 20))])


def test_the_size_of_every_case_counts_before_any_is_preprocessed(tmp_path, monkeypatch):
    """The dry run compared the patch with its first four cases, a training only after preprocessing all."""
    root = write_balls(tmp_path / "data", cases=6)
    large = np.zeros((130, 130, 130), np.uint8)
    large[10:20, 10:20, 10:20] = 1
    write_volume(root / "images" / "z_large.nii.gz", 100 * large.astype(np.int16))
    write_volume(root / "labels" / "z_large.nii.gz", large)
    fold = {"train": [f"ball_{i}" for i in range(5)] + ["z_large"], "val": ["ball_5"]}
    (tmp_path / "split.json").write_text(str(fold).replace("'", '"'))
    split = f"data.split={{name: file, file: {tmp_path / 'split.json'}}}"
    patch = "sampling.patch_size=[128, 128, 128]"
    settings = load_config(ball_settings(root), [split, patch])
    prepare_dataset(settings.data, settings.preprocess, network_needs(settings), tmp_path / "store")

    monkeypatch.setattr(cache_module, "_prepare", lambda *_: pytest.fail("preprocessed"))
    larger = load_config(ball_settings(root), [split, "sampling.patch_size=[999, 999, 999]"])
    for start in (fit, dry_run):
        with pytest.raises(ConfigError, match=r"999×999×999 .* at most 130×130×130 voxels"):
            start(larger, tmp_path / "run")
