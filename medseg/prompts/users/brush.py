"""From a center line to the pixels that a hand paints: wobble, width, clipping to the array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from medseg.prompts.users.strokes import Line

STEP = 0.7
"""Distance of the stamps of a brush, in pixels."""


def resample(line: Line, step: float = STEP) -> Line:
    """Return points at equal distances along a polyline, (M, 2)."""
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    total = float(lengths.sum())
    if total == 0:
        return line[:1]
    positions = np.concatenate([[0.0], np.cumsum(lengths)])
    at = np.linspace(0, total, max(2, round(total / step) + 1))
    return np.stack([np.interp(at, positions, line[:, axis]) for axis in range(2)], axis=1)


def add_wobble(line: Line, amplitude: float, rng: np.random.Generator, wavelength: float = 12.0) -> Line:
    """Displace the points of a resampled line smoothly, as an unsteady hand does.

    Args:
        line: (M, 2), from `resample`.
        amplitude: standard deviation of the displacement in pixels.
        rng: draws the displacement.
        wavelength: scale on which the displacement changes, in pixels.
    """
    sigma = wavelength / STEP / 2
    noise = gaussian_filter1d(rng.standard_normal(line.shape), sigma, axis=0, mode="nearest")
    # white noise that passes a Gaussian of width sigma keeps the variance 1 / (2 sigma sqrt(pi))
    return line + amplitude * np.sqrt(2 * sigma * np.sqrt(np.pi)) * noise


def paint(line: Line, radius: float, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the pixels, (N, 2), under a round brush that is moved along a line; those of the array only."""
    reach = int(radius)
    grid = np.indices((2 * reach + 1,) * 2).reshape(2, -1).T - reach
    disk = grid[(grid**2).sum(axis=1) <= radius**2]
    centers = np.unique(np.rint(line).astype(np.intp), axis=0)
    stamped = (centers[:, None] + disk[None]).reshape(-1, 2)
    stamped = stamped[((stamped >= 0) & (stamped < shape)).all(axis=1)]
    flat = np.unique(np.ravel_multi_index(tuple(stamped.T), shape))
    return np.stack(np.unravel_index(flat, shape), axis=1)
