"""Masks that are made less reliable."""

import numpy as np
import pytest

from medseg.data.augmentation.mask_corruption import (
    MaskAugmentConfig,
    MaskMorphologyConfig,
    MaskRemovalConfig,
    _Box,
    _change_mask,
    corrupt_masks,
)

ALWAYS = MaskMorphologyConfig(probability=1, radius=(1, 1))
NEVER = MaskAugmentConfig.model_validate({"morphology": {"probability": 0}, "removal": {"probability": 0}})


def cube(size=32, low=12, high=20):
    codes = np.zeros((size,) * 3, np.uint8)
    codes[low:high, low:high, low:high] = 1
    return codes


def test_a_box_of_radius_1_has_27_voxels():
    mask = np.zeros((5, 5, 5), np.uint8)
    mask[2, 2, 2] = 1
    grown = _Box(1.0, (1, 1, 1)).dilate(mask)
    assert grown.sum() == 27
    assert _Box(1.0, (1, 1, 1)).erode(grown).sum() == 1
    assert _Box(1.0, (1, 1, 3)).dilate(mask).sum() == 9  # the neighbors along the coarse axis are 3 away
    assert _Box(1.0, (1, 1, 1)).erode(np.ones((5, 5, 5), np.uint8)).all()  # the border is not the outside


def test_a_mask_that_grows_takes_voxels_from_others():
    codes = np.zeros((1, 1, 8), np.uint8)
    codes[..., 2:4], codes[..., 4:6] = 1, 2
    _change_mask(codes, 1, _Box.dilate, _Box(1.0, (1, 1, 1)))
    assert codes.ravel().tolist() == [0, 1, 1, 1, 1, 2, 0, 0]


def test_opening_and_closing():
    codes = cube()
    codes[12, 12, 2:12] = 1  # a thin line
    codes[15, 15, 15] = 0  # a hole
    opened, closed = codes.copy(), codes.copy()
    _change_mask(opened, 1, _Box.open, _Box(1.0, (1, 1, 1)))
    assert opened[12, 12, :11].sum() == 0
    _change_mask(closed, 1, _Box.close, _Box(1.0, (1, 1, 1)))
    assert closed[15, 15, 15] == 1
    assert closed.sum() == codes.sum() + 1


def test_one_component_is_removed_but_no_large_one():
    codes = cube()
    codes[:2, :2, :2] = codes[-2:, -2:, -2:] = 1
    config = NEVER.model_copy(update={"removal": MaskRemovalConfig(probability=1, largest=0.01)})  # 327 voxels
    for seed in range(5):
        left = corrupt_masks(codes, config, (1, 1, 1), np.random.default_rng(seed))
        assert left.sum() == 8**3 + 8  # one of the small ones
        assert left[15, 15, 15] == 1


def test_the_radius_is_limited_by_the_patch():
    codes = cube(16, 4, 12)
    config = MaskAugmentConfig(
        morphology=MaskMorphologyConfig(probability=1, radius=(1, 8)), removal=MaskRemovalConfig(probability=0)
    )
    sizes = {int(corrupt_masks(codes, config, (1, 1, 1), np.random.default_rng(i)).sum()) for i in range(20)}
    # a radius of 16 / 16 = 1: dilation adds a layer, erosion takes one, opening and closing keep a cube
    assert sizes == {10**3, 6**3, 8**3}


def test_the_same_generator_gives_the_same_masks():
    codes = cube()
    before = codes.copy()
    config = MaskAugmentConfig(morphology=ALWAYS, removal=MaskRemovalConfig(probability=1))
    one, two = (corrupt_masks(codes, config, (1, 1, 2), np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, two)
    assert np.array_equal(codes, before)
    assert np.array_equal(corrupt_masks(codes, NEVER, (1, 1, 2), np.random.default_rng(3)), codes)


def test_the_radii_are_in_order():
    with pytest.raises(ValueError, match="the first number is the smallest"):
        MaskMorphologyConfig(radius=(3, 1))
