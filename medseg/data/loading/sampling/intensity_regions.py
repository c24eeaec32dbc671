"""Regions of similar intensity, as objects of a training beyond the labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.geometry import Array

_TRIES = 4
_SMALLEST, _LARGEST = 0.004, 0.4
"""Smallest and largest share of a patch that a region fills."""


def draw_region(image: Array, allowed: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a connected region of a patch in which the smoothed intensity varies little.

    Args:
        image: (C, *P); one channel is drawn.
        allowed: (*P), voxels that may belong to a region.
        rng: source of all random numbers.

    Returns:
        (*P) bool; empty if no region of a plausible size was drawn.
    """
    channel = image[int(rng.integers(len(image)))]
    smooth = ndimage.gaussian_filter(channel.astype(np.float32), rng.uniform(0.7, 2.0))
    places = np.flatnonzero(allowed)
    spread = float(smooth.std())
    if not places.size or spread == 0:
        return np.zeros(allowed.shape, bool)
    for _ in range(_TRIES):
        seed = np.unravel_index(int(rng.choice(places)), allowed.shape)
        near = allowed & (np.abs(smooth - smooth[seed]) < rng.uniform(0.2, 0.9) * spread)
        parts, _ = ndimage.label(near)  # pyright: ignore[reportGeneralTypeIssues]
        region = np.asarray(ndimage.binary_opening(parts == parts[seed]), bool)
        if _SMALLEST <= region.mean() <= _LARGEST:
            return _filled(region) & allowed
    return np.zeros(allowed.shape, bool)


def _filled(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Close gaps of a region that are one or two voxels wide."""
    closed = np.asarray(ndimage.binary_closing(np.pad(region, 2)), bool)
    return closed[(slice(2, -2),) * region.ndim] | region
