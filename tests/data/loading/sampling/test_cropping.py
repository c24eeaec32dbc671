"""Crops beyond the border of a scan: zeros, or the scan mirrored."""

import numpy as np
import pytest
import torch

from medseg.config.schema import load_config
from medseg.data.augmentation import AugmentConfig, augmentation_preset
from medseg.data.augmentation.options import AffineConfig
from medseg.data.loading.cache.cached_cases import write_cached_case
from medseg.data.loading.sampling.cropping import crop, mirrored_indices
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.data.loading.sampling.patch_dataset import PatchDataset
from medseg.data.loading.sampling.patch_sampler import PatchSampler
from medseg.errors import ConfigError

NAMES = ("background", "object")


@pytest.mark.parametrize(("start", "length"), [(0, 5), (-3, 9), (2, 7), (-9, 25)])
def test_mirrored_indices_are_those_of_numpy(start, length):
    padded = np.pad(np.arange(5), 30, mode="reflect")
    assert mirrored_indices(start, length, 5).tolist() == padded[30 + start : 30 + start + length].tolist()


def test_an_axis_of_one_voxel_is_repeated():
    assert mirrored_indices(-1, 3, 1).tolist() == [0, 0, 0]


def test_a_crop_beyond_two_corners():
    array = np.arange(12).reshape(1, 3, 4)
    padded = np.pad(array, ((0, 0), (2, 2), (3, 3)), mode="reflect")
    assert crop(array, (-2, -3), (7, 10), (7, 10), "reflect").tolist() == padded.tolist()
    assert crop(array, (-2, -3), (7, 10), (7, 10))[0, 2:5, 3:7].tolist() == array[0].tolist()
    assert crop(array, (1, 1), (2, 2), (2, 2), "reflect").tolist() == [[[5, 6], [9, 10]]]


@pytest.fixture
def small_case(tmp_path):
    """A picture of 5 × 6 voxels whose intensities give the codes: 2 above 20, else 1."""
    image = np.arange(1, 31, dtype=np.float32).reshape(1, 5, 6)
    return write_cached_case(
        tmp_path / "small", image, np.where(image[0] > 20, 2, 1).astype(np.uint8), 2, (1.0, 1.0)
    )


def patches_of(case, border, augment):
    config = SamplingConfig(patch_size=(8, 8), border=border)
    return PatchDataset([case], PatchSampler([case], NAMES, config, 0), augment, length=4)


def test_a_patch_larger_than_its_picture_continues_it_with_its_labels(small_case):
    sample = patches_of(small_case, "reflect", augmentation_preset("none"))[0]
    image = np.asarray(small_case.image)
    # 3 rows and 2 columns are missing: 1 before and 2 after, 1 before and 1 after
    assert sample["image"].numpy().tolist() == np.pad(image, ((0, 0), (1, 2), (1, 1)), mode="reflect").tolist()
    assert torch.equal(sample["label"], (sample["image"] > 20).short())
    outside = patches_of(small_case, "zeros", augmentation_preset("none"))[0]
    assert int((outside["label"] < 0).sum()) == 64 - 30


def test_rotated_patches_have_labels_everywhere(small_case):
    turned = AugmentConfig(affine=AffineConfig(probability=1, rotate=180, scale=(0.5, 0.5)))
    labels = [patches_of(small_case, "reflect", turned)[i]["label"] for i in range(4)]
    assert all(bool((label >= 0).all()) for label in labels)


def test_mirrored_borders_are_refused_where_left_and_right_differ():
    labels = {"names": {"background": 0, "left": 1, "right": 2}, "pairs": [["left", "right"]]}
    with pytest.raises(ConfigError, match=r"sampling\.border=reflect continues scans by mirror images"):
        load_config({"data": {"labels": labels}}, ["sampling.border=reflect"])
