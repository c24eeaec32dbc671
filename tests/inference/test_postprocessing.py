"""Components by hand: small ones are removed, the largest is kept, holes are filled."""

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes

from medseg.inference.postprocessing import PostprocessConfig

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


def test_an_empty_mask_stays_empty():
    empty = np.zeros((3, 4, 5), bool)
    config = PostprocessConfig(smallest={"a": 2}, largest=("a",), fill=("a",))
    assert not config.of_mask(empty, "a", 1.0).any()


def test_removed_voxels_become_background_and_filling_keeps_other_labels():
    classes = np.where(MASK, 1, 0).astype(np.uint8)
    classes[1, 1] = 2  # another label in the ring's hole
    classes[4, 6] = 2
    config = PostprocessConfig(largest=("one", "two"), fill=("one",))
    result = config.of_classes(classes, ("none", "one", "two"), 1.0)
    assert result.dtype == np.uint8
    assert (result == 1).sum() == 8
    assert result[1, 1] == 2  # unchanged: it is another label
    assert result[4, 0] == 0
    assert config.of_classes(classes, ("none", "x", "y"), 1.0) is classes


def test_regions_are_processed_separately():
    regions = np.stack([MASK, MASK])
    result = PostprocessConfig(largest=("part",)).of_regions(regions, ("whole", "part"), 1.0)
    assert result.sum(axis=(1, 2)).tolist() == [11, 8]


def test_voxels_that_share_a_corner_are_connected():
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
    assert PostprocessConfig(largest=("a",)).of_mask(mask, "a", 1.0).sum() == 2


def one_by_one(config, classes, names, voxel):
    """The steps label by label, each on the whole map: slow, and what they mean."""
    result = classes
    for index, name in enumerate(names):
        mask = result == index
        changed = alone(config, mask, name, voxel)
        result = np.where(mask & ~changed, 0, result)
        result = np.where(changed & (result == 0), index, result).astype(classes.dtype)
    return result


def alone(config, mask, name, voxel):
    def components(mask):
        numbered = cc3d.connected_components(
            np.asfortranarray(mask).astype(np.uint8), connectivity=8 if mask.ndim == 2 else 26
        )
        sizes = np.bincount(np.asarray(numbered).ravel())
        sizes[0] = 0
        return np.asarray(numbered), sizes

    if name in config.smallest:
        numbered, sizes = components(mask)
        mask = (sizes >= config.smallest[name] / voxel)[numbered] & mask
    if name in config.largest:
        numbered, sizes = components(mask)
        mask = numbered == sizes.argmax() if sizes.any() else mask
    return np.asarray(binary_fill_holes(mask)) if name in config.fill else mask


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_one_pass_over_all_labels_equals_one_pass_per_label(data):
    shape = data.draw(st.sampled_from([(9, 11), (6, 7, 8), (1, 12, 5)]))
    seed, share = data.draw(st.integers(0, 10**6)), data.draw(st.sampled_from([0.2, 0.5, 0.8]))
    rng = np.random.default_rng(seed)
    names = ("none", "a", "b", "c")
    classes = np.where(rng.random(shape) < share, rng.integers(1, 4, shape), 0)
    if data.draw(st.booleans()):  # larger components, with holes
        classes = classes.repeat(2, axis=0).repeat(3, axis=1)
    classes = classes.astype(data.draw(st.sampled_from([np.uint8, np.int16])))
    some = st.lists(st.sampled_from(names), unique=True).map(tuple)
    sizes = st.dictionaries(st.sampled_from(names), st.sampled_from([1.0, 3.0, 4.5, 12.0]))
    config = PostprocessConfig(smallest=data.draw(sizes), largest=data.draw(some), fill=data.draw(some))
    before = classes.copy()
    found = config.of_classes(classes, names, 1.5)
    assert np.array_equal(found, one_by_one(config, classes, names, 1.5))
    assert found.dtype == classes.dtype
    assert np.array_equal(classes, before)
    for name in names:
        mask = classes == 1
        assert np.array_equal(config.of_mask(mask, name, 1.5), alone(config, mask, name, 1.5))


def test_many_labels_need_a_single_pass_over_the_volume(monkeypatch):
    classes = np.zeros((64, 40, 8), np.uint8)
    for index in range(1, 61):
        classes[index, 2:9, 2:6] = index
        classes[index, 20, 3] = index
    names = ("none", *(f"label{i}" for i in range(1, 61)))
    passes = []
    real = cc3d.connected_components

    def counted(array, **options):
        passes.append(array.size)
        return real(array, **options)

    monkeypatch.setattr(cc3d, "connected_components", counted)
    found = PostprocessConfig(largest=names[1:], smallest=dict.fromkeys(names[1:], 2.0)).of_classes(
        classes, names, 1.0
    )
    assert sum(passes) <= 2 * classes.size
    assert (found > 0).sum() == 60 * 28
