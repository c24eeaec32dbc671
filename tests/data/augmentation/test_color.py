import numpy as np
import pytest
import torch

from medseg.data.augmentation.color import (
    _STAINS,
    change_color,
    color_matrix,
    shuffle_channels,
    to_gray,
    vary_stain,
)
from medseg.data.augmentation.options import ColorConfig, RandomConfig, StainConfig


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(*pixels):
    """A picture (3, 1, N) of pixels in RGB."""
    return torch.tensor(pixels).T.reshape(3, 1, -1).float()


def pixels(image):
    return image.reshape(3, -1).T.numpy()


def test_a_turn_by_120_degrees_exchanges_the_channels():
    # around the gray axis red turns to green, green to blue, blue to red
    np.testing.assert_allclose(color_matrix(2 * np.pi / 3, 1.0) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(color_matrix(2 * np.pi / 3, 1.0) @ [0, 0, 1], [1, 0, 0], atol=1e-12)


def test_saturation_by_hand():
    # mean of (0.9, 0.3, 0.3) is 0.5: deviations 0.4, -0.2, -0.2 are halved
    np.testing.assert_allclose(color_matrix(0.0, 0.5) @ [0.9, 0.3, 0.3], [0.7, 0.4, 0.4])


def test_hue_and_saturation_keep_gray_pixels():
    image = picture([0.2, 0.2, 0.2], [0.9, 0.1, 0.4])
    change_color(image, ColorConfig(probability=1, hue=60, saturation=0.5), rng())
    np.testing.assert_allclose(pixels(image)[0], [0.2] * 3, atol=1e-6)
    assert not np.allclose(pixels(image)[1], [0.9, 0.1, 0.4], atol=1e-2)


def test_gray_values_by_hand():
    image = picture([1, 0, 0], [0, 1, 0], [0, 0, 1])
    to_gray(image, RandomConfig(), rng())
    np.testing.assert_allclose(pixels(image), np.repeat([[0.299], [0.587], [0.114]], 3, axis=1), atol=1e-6)


def test_channels_are_permuted():
    seen = set()
    for seed in range(40):
        image = picture([1, 2, 3])
        shuffle_channels(image, RandomConfig(), rng(seed))
        seen.add(tuple(pixels(image)[0].tolist()))
    assert len(seen) == 6


class Fixed(np.random.Generator):
    """Draws the upper limit."""

    def uniform(self, low=0.0, high=1.0, size=None):
        return np.full(size, high) if size else high


def test_the_amount_of_a_stain_is_scaled():
    # light through 0.6 units of hematoxylin and 0.2 of eosin; 50% more of each
    stains = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)
    amounts = np.array([[0.0, 0.0, 0.0], [0.6, 0.2, 0.0]])
    image = picture(*np.exp(-amounts @ stains).tolist())
    vary_stain(image, StainConfig(scale=0.5, shift=0), Fixed(np.random.PCG64(0)))
    np.testing.assert_allclose(pixels(image), np.exp(-1.5 * amounts @ stains), atol=1e-5)


def test_the_amount_of_a_stain_is_shifted():
    stains = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)
    image = picture([1.0, 1.0, 1.0])
    vary_stain(image, StainConfig(scale=0, shift=0.1), Fixed(np.random.PCG64(0)))
    np.testing.assert_allclose(pixels(image)[0], np.exp(-np.full(3, 0.1) @ stains), atol=1e-5)


def test_standardized_pictures_come_back_in_their_range():
    image = torch.from_numpy(rng().normal(3, 2, size=(3, 20, 20))).float()
    before = image.clone()
    vary_stain(image, StainConfig(scale=0, shift=0), rng())
    # all but the pixels darker than 1/256 of the range, which are bounded
    assert ((image - before).abs() < 1e-3).float().mean() > 0.99
    vary_stain(image, StainConfig(scale=0.3, shift=0.05), rng())
    assert (image.amax((1, 2)) <= before.amax((1, 2)) + 1e-4).all()
    assert (image - before).abs().max() > 0.05


@pytest.mark.parametrize("change", [vary_stain, change_color])
def test_black_and_constant_pictures_stay_finite(change):
    for value in (0.0, 1.0, -3.0):
        image = torch.full((3, 4, 4), value)
        config = StainConfig() if change is vary_stain else ColorConfig()
        change(image, config, rng())
        assert torch.isfinite(image).all()
