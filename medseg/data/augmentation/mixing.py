"""Transforms that use a second training sample: exchange of style, and boxes of another patch."""

from __future__ import annotations

import numpy as np
import torch

from medseg.data.augmentation.fields import along_axis
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
    waves = [_low_frequencies(n, band) for n in image.shape[1:]]
    own, amplitudes = (_transform(array, waves) for array in (image, other))
    gain = share * (amplitudes.abs() / own.abs().clamp_min(1e-6) - 1)
    change = own.mul_(gain)
    for axis, wave in enumerate(waves, start=1):
        change = along_axis(wave.conj().T.resolve_conj() / wave.shape[1], change, axis)
    return image + change.real


def _low_frequencies(n: int, band: float) -> torch.Tensor:
    """Return the rows of the discrete Fourier transform of size n up to a share of the Nyquist frequency."""
    highest = min(int(band * n / 2 + 1e-9), (n - 1) // 2)
    frequencies = np.arange(-highest, highest + 1)
    return torch.from_numpy(np.exp(-2j * np.pi / n * np.outer(frequencies, np.arange(n))).astype(np.complex64))


def _transform(image: torch.Tensor, waves: list[torch.Tensor]) -> torch.Tensor:
    """Compute the low frequencies of an image (C, *P): (C, *K) complex64."""
    spectrum = image.to(torch.complex64)
    for axis in range(len(waves), 0, -1):
        spectrum = along_axis(waves[axis - 1], spectrum, axis)
    return spectrum


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
