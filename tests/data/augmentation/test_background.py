"""Synthetic background: what changes, by how much, and where it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.data.augmentation import Augmenter
from medseg.data.augmentation.background import change_background
from medseg.data.augmentation.options import AugmentConfig, BackgroundConfig


@pytest.fixture
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Two bright objects on a dark background, in two channels of different contrast, and the objects' mask."""
    foreground = torch.zeros(64, 64, dtype=torch.bool)
    foreground[10:20, 10:20] = foreground[40:50, 30:44] = True
    image = torch.stack([foreground * 1.0, foreground * -4.0 + 2])
    return image, foreground


def test_only_the_background_moves_toward_the_foreground(scene):
    image, foreground = scene
    changed = image.clone()
    config = BackgroundConfig(strength=(0.5, 0.5), texture=0)
    change_background(changed, foreground, config, np.random.default_rng(0))
    assert torch.equal(changed[:, foreground], image[:, foreground])
    share = (changed - image)[:, ~foreground] / torch.tensor([[1.0], [-4.0]])
    assert 0 <= share.min() < 0.1
    assert 0.4 < share.max() <= 0.5 + 1e-6
    assert torch.allclose(share[0], share[1], atol=1e-6)  # the same regions in all channels


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_faint_objects_stay_on_their_side_of_the_background(scene, sign):
    image, foreground = scene[0][:1] * sign, scene[1]
    image[:, 10:20, 10:20] = 0.3 * sign  # the smaller object, 42% of the foreground: 0.3 instead of 1
    changed = image.clone()
    change_background(
        changed, foreground, BackgroundConfig(strength=(0.9, 0.9), texture=0), np.random.default_rng(0)
    )
    # the mean of the foreground is 0.7: 0.9 of it would leave the faint object darker than its surroundings
    assert 0.2 < (changed[:, ~foreground] * sign).max() <= 0.9 * 0.3 + 1e-6


def test_objects_that_overlap_the_background_leave_it_as_it_is(scene):
    image, foreground = scene[0][:1].clone(), scene[1]
    image[:, 10:20, 10:20] = -0.1  # darker than the background
    changed = image.clone()
    change_background(changed, foreground, BackgroundConfig(texture=0), np.random.default_rng(0))
    assert torch.equal(changed, image)


def test_without_objects_the_regions_differ_from_the_rest_too(scene):
    image, foreground = scene
    changed = image.clone()
    change_background(changed, torch.zeros_like(foreground), BackgroundConfig(), np.random.default_rng(0))
    assert (changed - image).abs().max() > 0.05


def test_constant_image_stays_constant():
    image = torch.full((1, 16, 16), 3.0)
    change_background(
        image, torch.zeros(16, 16, dtype=torch.bool), BackgroundConfig(), np.random.default_rng(0)
    )
    assert torch.equal(image, torch.full((1, 16, 16), 3.0))


def test_augmenter_needs_the_foreground(scene):
    image, foreground = scene
    augmenter = Augmenter(AugmentConfig(background=BackgroundConfig(probability=1)), spatial_dims=2)
    without = augmenter.apply_intensity(image, np.random.default_rng(0))
    assert torch.equal(without, image)
    changed = augmenter.apply_intensity(image, np.random.default_rng(0), foreground=foreground)
    assert not torch.equal(changed, image)
    again = augmenter.apply_intensity(image, np.random.default_rng(0), foreground=foreground)
    assert torch.equal(changed, again)
