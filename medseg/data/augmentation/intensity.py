"""Random intensity transforms of normalized images.

Each takes an image (C, *P) that belongs to the caller and changes it in place, on its device. ``C`` may be a
part of the channels of an image; they get the same random values.
"""

from __future__ import annotations

import numpy as np
import torch

from medseg.data.augmentation.fields import smooth_field
from medseg.data.augmentation.filters import (
    apply_curve,
    blur,
    lower_resolution,
    mean_and_std,
    value_range,
)
from medseg.data.augmentation.options import (
    BlurConfig,
    FieldConfig,
    HistogramConfig,
    IntensityConfig,
    NoiseConfig,
    RandomConfig,
)

_SHARPEN_SIGMA = 1.0


def add_noise(image: torch.Tensor, config: NoiseConfig, rng: np.random.Generator) -> None:
    """Add Gaussian noise, independent in each channel and voxel."""
    std = rng.uniform(0, config.std)
    generator = torch.Generator(image.device).manual_seed(int(rng.integers(2**63)))  # twice as fast as NumPy's
    image.add_(torch.empty(image.shape, device=image.device).normal_(generator=generator), alpha=std)


def random_blur(image: torch.Tensor, config: BlurConfig, rng: np.random.Generator) -> None:
    """Blur with a Gaussian whose standard deviation is drawn for each axis."""
    image.copy_(blur(image, rng.uniform(*config.sigma, size=image.ndim - 1).tolist()))


def sharpen(image: torch.Tensor, config: IntensityConfig, rng: np.random.Generator) -> None:
    """Add the difference from the blurred image (unsharp mask)."""
    strength = rng.uniform(config.low, config.high)
    blurred = blur(image, (_SHARPEN_SIGMA,) * (image.ndim - 1))
    image.mul_(1 + strength).sub_(blurred, alpha=strength)


def change_brightness(image: torch.Tensor, config: IntensityConfig, rng: np.random.Generator) -> None:
    """Multiply by 1 + a drawn value."""
    image.mul_(1 + rng.uniform(config.low, config.high))


def shift_intensity(image: torch.Tensor, config: IntensityConfig, rng: np.random.Generator) -> None:
    """Add a drawn value to each channel."""
    offsets = rng.uniform(config.low, config.high, size=len(image)).astype(np.float32)
    image.add_(torch.from_numpy(offsets).to(image.device).reshape(-1, *(1,) * (image.ndim - 1)))


def change_contrast(image: torch.Tensor, config: IntensityConfig, rng: np.random.Generator) -> None:
    """Multiply deviations from the mean by 1 + a drawn value."""
    factor = 1 + rng.uniform(config.low, config.high)
    mean = float(image.mean())
    image.mul_(factor).add_(mean * (1 - factor))


def change_gamma(image: torch.Tensor, config: IntensityConfig, rng: np.random.Generator) -> None:
    """Raise intensities, rescaled to [0, 1], to a power; restore mean and standard deviation."""
    _gamma(image, config, rng)


def change_inverted_gamma(image: torch.Tensor, config: IntensityConfig, rng: np.random.Generator) -> None:
    """The same on the inverted image, which changes bright intensities most."""
    image.neg_()
    _gamma(image, config, rng)
    image.neg_()


def _gamma(image: torch.Tensor, config: IntensityConfig, rng: np.random.Generator) -> None:
    power = draw_factor(config.low, config.high, rng)
    low, high = value_range(image)
    if high - low < 1e-6:
        return
    mean, std = mean_and_std(image)
    image.sub_(low).mul_(1 / (high - low)).clamp_(0, 1).pow_(power)
    new_mean, new_std = mean_and_std(image)
    scale = std / max(new_std, 1e-8)
    image.mul_(scale).add_(mean - new_mean * scale)


def draw_factor(low: float, high: float, rng: np.random.Generator) -> float:
    """Draw a factor below or above 1 with equal probability, if the range contains 1."""
    if low < 1 < high:
        return rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
    return rng.uniform(low, high)


def simulate_low_resolution(image: torch.Tensor, config: IntensityConfig, rng: np.random.Generator) -> None:
    """Sample on a coarser grid and back."""
    factor = rng.uniform(config.low, config.high)
    image.copy_(lower_resolution(image, (factor,) * (image.ndim - 1)))


def apply_bias_field(image: torch.Tensor, config: FieldConfig, rng: np.random.Generator) -> None:
    """Multiply intensities, measured from the minimum, by the exponential of a smooth field.

    Receive coils of MR scanners and vignetting of lenses have such gains.
    """
    field = smooth_field(rng, image.shape[1:], config.intervals, image.device)
    field.mul_(rng.uniform(0, config.strength)).exp_()
    low = float(image.min())
    image.sub_(low).mul_(field).add_(low)


def add_illumination(image: torch.Tensor, config: FieldConfig, rng: np.random.Generator) -> None:
    """Add a smooth field, times the range of the intensities: background light, scatter, fluorescence."""
    field = smooth_field(rng, image.shape[1:], config.intervals, image.device)
    low, high = value_range(image)
    image.add_(field, alpha=rng.uniform(0, config.strength) * (high - low))


def change_histogram(image: torch.Tensor, config: HistogramConfig, rng: np.random.Generator) -> None:
    """Map intensities by a random monotone, piecewise linear curve that keeps minimum and maximum."""
    slopes = np.exp(rng.uniform(-config.strength, config.strength, size=rng.integers(1, config.knots + 1) + 1))
    low, high = value_range(image)
    if high - low < 1e-6:
        return
    curve = low + (high - low) * np.concatenate([[0], np.cumsum(slopes)]) / slopes.sum()
    image.copy_(apply_curve(image, low, high, curve))


def invert(image: torch.Tensor, config: RandomConfig, rng: np.random.Generator) -> None:
    """Exchange dark and bright as the normalization of an inverted scan would.

    That is 1 - x for intensities in [0, 1] (``range``, ``percentile``), otherwise -x (standardized images).
    """
    low, high = value_range(image)
    image.neg_()
    if low >= 0 and high <= 1:
        image.add_(1)


def drop_channel(image: torch.Tensor, config: RandomConfig, rng: np.random.Generator) -> None:
    """Set one of several channels to 0, as of a scan that was not acquired."""
    if len(image) > 1:
        image[int(rng.integers(len(image)))] = 0
