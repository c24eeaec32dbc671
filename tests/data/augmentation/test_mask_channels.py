"""Masks in training samples."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.data.augmentation import AugmentConfig, augmentation_preset
from medseg.data.augmentation.mask_corruption import MaskAugmentConfig, MaskChannels
from medseg.data.augmentation.options import AffineConfig, FlipConfig
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache.cached_cases import write_cached_case
from medseg.data.loading.cache.case_file import read_case_file, write_case_file
from medseg.data.loading.sampling.lateral_swap import LateralSwap
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.data.loading.sampling.patch_dataset import PatchDataset
from medseg.data.loading.sampling.patch_sampler import PatchSampler

LABELS = LabelSchema(names={"no": (0,), "left": (1,), "right": (2,)}, pairs=(("left", "right"),))
EXACT = MaskAugmentConfig.model_validate({"morphology": {"probability": 0}, "removal": {"probability": 0}})
MOVING = AugmentConfig(
    flip=FlipConfig(probability=0.5, axes=(0, 1, 2)),
    affine=AffineConfig(probability=0.5, rotate=30, scale=(0.8, 1.2)),
    noise=augmentation_preset("3d").noise,
)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A case whose masks equal its labels."""
    folder = tmp_path_factory.mktemp("masks")
    codes = np.random.default_rng(0).integers(1, 4, (12, 14, 10)).astype(np.uint8)
    image = np.random.default_rng(1).normal(size=(1, *codes.shape)).astype(np.float32)
    written = write_cached_case(folder / "case", image, codes, 3, (1.0, 1.0, 1.0))
    write_case_file(folder / "masks", {"masks": codes - 1}, {})
    return replace(written, mask_file=read_case_file(folder / "masks"))


def dataset_of(case, augment=MOVING, masks=MaskChannels.of(LABELS, EXACT)):  # noqa: B008 (frozen)
    plan = PatchSampler([case], tuple(LABELS.names), SamplingConfig(patch_size=(8, 9, 10)), 0)
    sides = LateralSwap(LABELS.mirrored_labels, LABELS.mirrored_classes)
    dataset = PatchDataset([case], plan, augment, 20, lateral_pairs=sides)
    dataset.masks = masks
    return dataset


def test_masks_move_and_swap_sides_with_the_labels(case):
    dataset = dataset_of(case)
    for position in range(20):
        sample = dataset[position]
        assert sample["image"].shape == (3, 8, 9, 10)
        inside = sample["label"][0] >= 0
        for index in (1, 2):
            assert torch.equal(sample["image"][index][inside] == 1, (sample["label"][0] == index)[inside])
        assert not sample["image"][1:, ~inside].any()  # outside the scan there are no masks


def test_masks_do_not_change_the_image_and_the_label(case):
    with_masks, without = dataset_of(case, masks=MaskChannels.of(LABELS, MaskAugmentConfig())), dataset_of(case)
    without.masks = None
    for position in range(5):
        one, two = with_masks[position], without[position]
        assert torch.equal(one["image"][:1], two["image"])
        assert torch.equal(one["label"], two["label"])
        assert one["label"].dtype == torch.int16


def test_cases_without_a_file_have_empty_masks(case):
    sample = dataset_of(replace(case, mask_file=None))[0]
    assert sample["image"].shape[0] == 3
    assert not sample["image"][1:].any()
