"""Components by hand: small ones go, the largest stays, holes close."""

import numpy as np
import pytest

from medseg.data.postprocess import PostprocessConfig

MASK = np.array(
    [
        [1, 1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 1, 0],
        [1, 1, 1, 0, 0, 0, 1],  # the two touch by their corners: one component
        [0, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0],
    ],
    bool,
)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, [8, 2, 1]),
        ({"smallest": {"a": 2}}, [8, 2]),
        ({"smallest": {"a": 2.5}}, [8]),
        ({"largest": ("a",)}, [8]),
        ({"fill": ("a",)}, [9, 2, 1]),
        ({"largest": ("a",), "fill": ("a",)}, [9]),
        ({"largest": ("b",)}, [8, 2, 1]),
    ],
)
def test_steps_on_one_mask(settings, sizes):
    result = PostprocessConfig(**settings).of_mask(MASK, "a", 1.0)
    assert result.sum() == sum(sizes)
    assert result.dtype == bool


def test_sizes_are_mm3():
    config = PostprocessConfig(smallest={"a": 3.0})
    assert config.of_mask(MASK, "a", 1.5).sum() == 10  # 1 voxel is 1.5 mm³, 2 are 3
    assert config.of_mask(MASK, "a", 1.0).sum() == 8


def test_nothing_is_left_of_nothing():
    empty = np.zeros((3, 4, 5), bool)
    config = PostprocessConfig(smallest={"a": 2}, largest=("a",), fill=("a",))
    assert not config.of_mask(empty, "a", 1.0).any()


def test_classes_give_way_to_the_background_and_holes_take_no_other_label():
    classes = np.where(MASK, 1, 0).astype(np.uint8)
    classes[1, 1] = 2  # another label in the ring's hole
    classes[4, 6] = 2
    config = PostprocessConfig(largest=("one", "two"), fill=("one",))
    result = config.of_classes(classes, ("none", "one", "two"), 1.0)
    assert result.dtype == np.uint8
    assert (result == 1).sum() == 8
    assert result[1, 1] == 2  # not the one's: it is a label
    assert result[4, 0] == 0
    assert config.of_classes(classes, ("none", "x", "y"), 1.0) is classes


def test_regions_keep_to_themselves():
    regions = np.stack([MASK, MASK])
    result = PostprocessConfig(largest=("part",)).of_regions(regions, ("whole", "part"), 1.0)
    assert result.sum(axis=(1, 2)).tolist() == [11, 8]


def test_volumes_connect_by_corners():
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
    assert PostprocessConfig(largest=("a",)).of_mask(mask, "a", 1.0).sum() == 2
