"""Training samples of one object and a prompt."""

import numpy as np
import pytest
import torch

from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.generator_state import unpack_generator
from medseg.data.loading.sampling.prompt_samples import (
    PROMPTS,
    ROUNDS,
    USER_STATE,
    PromptSamples,
    build_user,
    coarse_mask,
)
from medseg.prompts.options import PromptTask

LABELS = LabelSchema(names={"background": (0,), "liver": (1,), "tumor": (2,)})
REGIONS = LabelSchema(
    names={"background": (0,), "liver": (1,), "tumor": (2,)},
    regions={"organ": ("liver", "tumor"), "lesion": ("tumor",)},
)


def samples(labels=LABELS, **task):
    options = PromptTask(**{"users": {"clicks": 1}, "start_mask": 0.0, **task})
    return PromptSamples(options, labels, build_user(options))


def patch():
    """Two classes, one of them in two parts, and ignored voxels."""
    classes = np.zeros((16, 16), np.int16)
    classes[2:6, 2:6] = 1
    classes[2:5, 10:13] = 2
    classes[10:14, 2:6] = 2
    classes[:, 15] = -1
    return classes


def sample(**entries):
    return {"image": torch.zeros(1, 16, 16), "label": torch.from_numpy(patch())[None], **entries}


def test_the_wanted_class_is_the_object():
    made = samples().prepare(sample(), 2, (1.0, 1.0), np.random.default_rng(0))
    label = made["label"][0].numpy()
    assert np.array_equal(label == 1, patch() == 2)
    assert np.array_equal(label == -1, patch() == -1)
    channels = made[PROMPTS].numpy()
    assert channels.shape == (7, 16, 16)
    assert channels.dtype == np.uint8
    center = np.unravel_index(channels[1].argmax(), (16, 16))
    assert patch()[center] == 2  # the click is on the object
    assert not channels[[0, 2, 3, 4, 5, 6]].any()


def test_classes_regions_components_and_instances():
    rng = np.random.default_rng
    assert np.array_equal(samples().choose(patch(), None, 1, rng(0)), patch() == 1)
    drawn = {samples().choose(patch(), None, None, rng(i)).sum() for i in range(20)}
    assert drawn == {16, 25}  # without a wish, each class in turn: 4 · 4, and 3 · 3 + 4 · 4
    sizes = {samples(REGIONS).choose(patch(), None, 2, rng(i)).sum() for i in range(20)}
    assert sizes == {41, 25}  # both regions that contain the tumor
    sizes = {samples(objects="components").choose(patch(), None, 2, rng(i)).sum() for i in range(20)}
    assert sizes == {9, 16}
    objects = np.where(patch() == 1, 7, 0)
    assert np.array_equal(samples().choose(patch(), objects, 2, rng(0)), patch() == 1)


def test_a_patch_without_objects_has_no_prompt():
    empty = {"image": torch.zeros(1, 8, 8), "label": torch.zeros(1, 8, 8, dtype=torch.int16)}
    made = samples().prepare(empty, None, (1.0, 1.0), np.random.default_rng(0))
    assert not made["label"].any()
    assert not made[PROMPTS].any()
    assert made[ROUNDS] == 0


def test_numbers_of_earlier_prompts():
    one = samples(interactions=3, first_only=0.25)
    rounds = [int(one.prepare(sample(), 1, (1.0, 1.0), np.random.default_rng(i))[ROUNDS]) for i in range(200)]
    shares = np.bincount(rounds, minlength=4) / 200
    # 0.75 in proportion 6 : 3 : 2
    assert shares == pytest.approx([0.25, 0.75 * 6 / 11, 0.75 * 3 / 11, 0.75 * 2 / 11], abs=0.1)
    assert {
        int(samples(interactions=0).prepare(sample(), 1, (1.0, 1.0), np.random.default_rng(0))[ROUNDS])
    } == {0}


def test_masks_to_start_from():
    made = [
        samples(start_mask=1.0).prepare(sample(), 1, (1.0, 1.0), np.random.default_rng(i)) for i in range(30)
    ]
    masks = [one[PROMPTS][0].numpy() > 0 for one in made]
    assert all(mask.any() or one[PROMPTS].any() for mask, one in zip(masks, made, strict=True))
    without_prompt = [not one[PROMPTS][1:].any() for one in made]
    assert 5 <= sum(without_prompt) <= 20
    assert all(not one[ROUNDS] for one, alone in zip(made, without_prompt, strict=True) if alone)
    assert (
        coarse_mask(np.eye(4, dtype=bool), 2).tolist()
        == np.kron(np.eye(2), np.ones((2, 2))).astype(bool).tolist()
    )


def test_the_same_address_gives_the_same_sample():
    first, second = (
        samples(users={"mixed": 1.0}, start_mask=0.5).prepare(sample(), 1, (1.0, 1.0), np.random.default_rng(3))
        for _ in range(2)
    )
    assert first.keys() == second.keys() == {"image", "label", PROMPTS, ROUNDS, USER_STATE}
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert unpack_generator(first[USER_STATE]).random() == unpack_generator(second[USER_STATE]).random()


def test_regions_of_similar_intensity():
    image = torch.zeros(1, 32, 32)
    image[0, 8:20, 8:20] = 1
    labeled = {"image": image, "label": torch.zeros(1, 32, 32, dtype=torch.int16)}
    found = [
        samples(regions=1.0).prepare(labeled, None, (1.0, 1.0), np.random.default_rng(i))["label"][0].numpy()
        > 0
        for i in range(12)
    ]
    shares = [region[8:20, 8:20].sum() / region.sum() for region in found if region.any()]
    assert len(shares) >= 3
    assert min(shares) > 0.8  # the square, not what surrounds it, which fills too much of the patch


def test_a_scribble_may_come_with_one_on_the_background():
    made = [
        samples(users={"lines": 1}).prepare(sample(), 1, (1.0, 1.0), np.random.default_rng(i))
        for i in range(30)
    ]
    assert all(one[PROMPTS][5].any() for one in made)
    pairs = [one for one in made if one[PROMPTS][6].any()]
    assert 5 <= len(pairs) <= 20
    assert all(not (one[PROMPTS][6].numpy() * (patch() == 1)).any() for one in pairs)
