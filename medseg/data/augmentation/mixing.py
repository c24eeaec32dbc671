"""Transforms that use a second training sample: exchange of style, and boxes of another patch."""

from __future__ import annotations

import numpy as np
import torch

from medseg.data.augmentation.filters import apply_curve, value_range
from medseg.data.augmentation.options import CutMixConfig, StyleConfig

_QUANTILES = 33
_CURVE = 257
"""Knots of the curve between the quantiles of two images."""
_SAMPLED = 8192
"""Values that quantiles are computed from."""


def mix_style(image: torch.Tensor, other: torch.Tensor, config: StyleConfig, rng: np.random.Generator) -> None:
    """Give an image (C, *P) the intensities of another one of the same size, by a drawn share, in place."""
    kind = config.kind
    if kind == "any":
        kind = "fourier" if rng.random() < 0.5 else "histogram"
    share = float(rng.uniform(0, 1))
    if kind == "fourier":
        image.copy_(mix_amplitudes(image, other, share, float(rng.uniform(0, config.band))))
    else:
        for channel, model in zip(image, other, strict=True):
            channel.copy_(mix_quantiles(channel, model, share))


def mix_amplitudes(image: torch.Tensor, other: torch.Tensor, share: float, band: float) -> torch.Tensor:
    """Mix the amplitudes of low frequencies of two images (C, *P) and keep the phases of the first.

    Args:
        image: gives the phases and all other frequencies.
        other: gives a share of the amplitudes.
        share: 0 keeps the image, 1 takes all amplitudes of the other one.
        band: largest frequency, as a share of the Nyquist frequency along each axis.
    """
    axes = tuple(range(1, image.ndim))
    spectrum, amplitudes = torch.fft.rfftn(image, dim=axes), torch.fft.rfftn(other, dim=axes).abs()
    low = torch.ones((1,) * image.ndim, dtype=torch.bool)
    for axis, n in zip(axes, image.shape[1:], strict=True):
        frequencies = torch.fft.rfftfreq(n) if axis == axes[-1] else torch.fft.fftfreq(n)
        inside = frequencies.abs() <= band / 2
        low = low & inside.reshape(-1, *(1,) * (image.ndim - 1 - axis))
    own = spectrum.abs()
    gain = 1 + share * (amplitudes / own.clamp_min(1e-6) - 1)
    return torch.fft.irfftn(torch.where(low, spectrum * gain, spectrum), s=image.shape[1:], dim=axes)


def mix_quantiles(image: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    """Map intensities so that their quantiles move to those of another image by a share; both (*P)."""
    low, high = value_range(image)
    if high - low < 1e-6:
        return image.clone()
    levels = np.linspace(0, 1, _QUANTILES)
    own, wanted = (np.quantile(_some(array), levels) for array in (image, other))
    own[0], own[-1] = low, high
    positions = np.linspace(low, high, _CURVE)
    moved = np.interp(positions, own, wanted)
    return apply_curve(image, low, high, positions + share * (moved - positions))


def _some(image: torch.Tensor) -> np.ndarray:
    flat = image.reshape(-1)
    return flat[:: max(1, len(flat) // _SAMPLED)].numpy()


def draw_box(size: tuple[int, ...], config: CutMixConfig, rng: np.random.Generator) -> tuple[slice, ...]:
    """Draw the box of a patch of a size that is replaced by another sample's."""
    sides = [max(1, round(n * rng.uniform(*config.size))) for n in size]
    starts = [int(rng.integers(n - side + 1)) for n, side in zip(size, sides, strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
