import numpy as np
import pytest
import torch

from medseg.data.augmentation.mixing import draw_box, mix_amplitudes, mix_quantiles, mix_style
from medseg.data.augmentation.options import CutMixConfig, StyleConfig


def rng(seed=0):
    return np.random.default_rng(seed)


def noise(*shape, seed=0):
    return torch.from_numpy(rng(seed).normal(size=shape)).float()


@pytest.mark.parametrize("shape", [(2, 8, 9), (1, 6, 7, 8)])
def test_a_share_of_0_and_equal_amplitudes_change_nothing(shape):
    image, other = noise(*shape), noise(*shape, seed=1)
    torch.testing.assert_close(mix_amplitudes(image, other, 0.0, 1.0), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(mix_amplitudes(image, image, 1.0, 1.0), image, atol=1e-5, rtol=0)


def test_amplitudes_of_low_frequencies_come_from_the_other_image():
    # cosines of 1 and 6 periods over 32 pixels; a quarter of the Nyquist frequency is 4 periods
    t = torch.arange(32) * 2 * np.pi / 32
    image = (torch.cos(t) + torch.cos(6 * t)).expand(1, 32, 32)
    other = (3 * torch.sin(t) + 5 * torch.sin(6 * t)).expand(1, 32, 32)
    mixed = mix_amplitudes(image, other, 1.0, 0.25)
    torch.testing.assert_close(
        mixed, (3 * torch.cos(t) + torch.cos(6 * t)).expand(1, 32, 32), atol=1e-4, rtol=0
    )
    half = mix_amplitudes(image, other, 0.5, 0.25)
    torch.testing.assert_close(half, (2 * torch.cos(t) + torch.cos(6 * t)).expand(1, 32, 32), atol=1e-4, rtol=0)


def test_quantiles_move_to_those_of_the_other_image():
    image = torch.linspace(0, 1, 1001)
    other = 10 + 4 * torch.linspace(0, 1, 501)
    torch.testing.assert_close(mix_quantiles(image, other, 1.0), 10 + 4 * image, atol=1e-2, rtol=0)
    torch.testing.assert_close(mix_quantiles(image, other, 0.0), image, atol=1e-6, rtol=0)
    # halfway: (x + 10 + 4 x) / 2
    torch.testing.assert_close(mix_quantiles(image, other, 0.5), 5 + 2.5 * image, atol=1e-2, rtol=0)


@pytest.mark.parametrize("kind", ["any", "fourier", "histogram"])
def test_styles_of_constant_images_stay_finite(kind):
    for seed in range(4):
        image, other = torch.zeros(1, 6, 6), noise(1, 6, 6)
        mix_style(image, other, StyleConfig(kind=kind), rng(seed))
        assert torch.isfinite(image).all()


def test_boxes_lie_within_the_patch():
    config = CutMixConfig(size=(0.25, 0.5))
    for seed in range(50):
        box = draw_box((16, 40), config, rng(seed))
        sides = [part.stop - part.start for part in box]
        assert 4 <= sides[0] <= 8
        assert 10 <= sides[1] <= 20
        assert all(part.start >= 0 for part in box)
        assert box[0].stop <= 16
        assert box[1].stop <= 40
