"""Appearance of a scan: intensities, sharpness and color, measured on a bounded sample of its voxels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medseg.config.base import Spec
from medseg.data.io.pictures import display_channels
from medseg.data.scans import Scan
from medseg.geometry import Array

PERCENTS = (5, 25, 50, 75, 95)
"""Percentiles that describe intensities."""

_SAMPLE = 1 << 17
"""Largest number of voxels whose percentiles are computed."""
_BLOCK = 1 << 22
"""Largest number of voxels of the block in the middle of a scan on which sharpness is measured."""

Percentiles = tuple[float, float, float, float, float]
"""Values at ``PERCENTS``."""


class ScanFeatures(Spec):
    """Appearance of a scan.

    Color pictures count as one channel, the mean of red, green and blue.

    Attributes:
        intensities: for each channel the 5, 25, 50, 75 and 95 percentiles, as stored in the file.
        inside, outside: the same inside and outside of the labeled foreground; empty without labels.
        sharpness: mean magnitude of the gradient, in standard deviations per voxel; of the first channel.
        red_green: excess of red over green, as a share of the brightness; None for volumes.
        blue_yellow: excess of blue over the mean of red and green, as a share of the brightness; None for
            volumes.
        saturation: mean saturation from 0 (gray) to 1; None for volumes.
    """

    intensities: tuple[Percentiles, ...]
    inside: tuple[Percentiles, ...] = ()
    outside: tuple[Percentiles, ...] = ()
    sharpness: float
    red_green: float | None = None
    blue_yellow: float | None = None
    saturation: float | None = None


class Color(NamedTuple):
    """Mean color of a picture, as in :class:`ScanFeatures`."""

    red_green: float
    blue_yellow: float
    saturation: float


def measure_scan(scan: Scan, foreground: Array | None = None) -> ScanFeatures:
    """Measure the appearance of a scan.

    The cost is bounded: percentiles are those of evenly spaced voxels, sharpness is measured on a block in the
    middle.

    Args:
        scan: the scan.
        foreground: (*S) bool, the labeled foreground; None without labels.

    Example:
        >>> from pathlib import Path
        >>> from medseg.geometry import Grid
        >>> ramp = np.arange(100.0).reshape(1, 10, 10)
        >>> features = measure_scan(Scan(ramp, Grid.picture(10, 10), "picture", Path("ramp.png")))
        >>> [round(value) for value in features.intensities[0]], features.saturation
        ([5, 25, 50, 74, 94], 0.0)
    """
    channels = gray_channels(scan)
    every = _steps(scan.grid.shape)
    sample = channels[(slice(None), *every)].reshape(len(channels), -1)
    inside: tuple[Percentiles, ...] = ()
    outside: tuple[Percentiles, ...] = ()
    if foreground is not None:
        mask = foreground[every].ravel()
        inside, outside = percentiles(sample[:, mask]), percentiles(sample[:, ~mask])
    color = _color(scan)
    return ScanFeatures(
        intensities=percentiles(sample),
        inside=inside,
        outside=outside,
        sharpness=sharpness(channels[0]),
        **({} if color is None else color._asdict()),
    )


def gray_channels(scan: Scan) -> Array:
    """Return the channels (C, *S) of a scan; of a picture the mean of its colors, (1, H, W)."""
    if scan.kind == "volume":
        return scan.array
    pixels = display_channels(scan)
    return pixels.mean(axis=0, dtype=np.float32)[None] if len(pixels) == 3 else pixels


def percentiles(sample: Array) -> tuple[Percentiles, ...]:
    """Return the percentiles of each channel of voxels (C, N); empty if there are none."""
    if sample.shape[1] == 0:
        return ()
    values = np.percentile(sample.astype(np.float64), PERCENTS, axis=1).T
    return tuple((float(a), float(b), float(c), float(d), float(e)) for a, b, c, d, e in values)


def sharpness(channel: Array) -> float:
    """Return the mean magnitude of the gradient of one channel (*S), in standard deviations per voxel.

    Noise and fine detail raise it, blur and magnification lower it; brightness and contrast do not change it.
    A constant channel has 0.

    Example:
        >>> round(sharpness(np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]])), 3)
        2.0
    """
    block = _middle(channel).astype(np.float32)
    spread = float(block.std())
    if spread == 0:
        return 0.0
    squares = np.zeros(tuple(max(1, n - 1) for n in block.shape), np.float32)
    for axis, length in enumerate(block.shape):
        if length > 1:
            step = np.diff(block, axis=axis)
            squares += step[tuple(slice(0, n) for n in squares.shape)] ** 2
    return float(np.sqrt(squares).mean()) / spread


def _steps(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return slices that take evenly spaced voxels of an array (*S), at most about ``_SAMPLE``."""
    step = max(1, round((np.prod(shape, dtype=float) / _SAMPLE) ** (1 / len(shape))))
    return (slice(None, None, step),) * len(shape)


def _middle(channel: Array) -> Array:
    """Return a block in the middle of a channel (*S), with at most about ``_BLOCK`` voxels."""
    share = min(1.0, _BLOCK / channel.size) ** (1 / channel.ndim)
    box: list[slice] = []
    for length in channel.shape:
        size = max(1, round(length * share))
        start = (length - size) // 2
        box.append(slice(start, start + size))
    return channel[tuple(box)]


def _color(scan: Scan) -> Color | None:
    """Return the mean color of a picture; None for volumes."""
    if scan.kind == "volume":
        return None
    pixels = display_channels(scan)
    if len(pixels) == 1:
        return Color(0.0, 0.0, 0.0)
    sample = pixels[(slice(None), *_steps(scan.grid.shape))].reshape(3, -1)
    red, green, blue = sample.astype(np.float64)
    brightness = max(float((red + green + blue).mean()) / 3, 1e-6)
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    saturation = np.where(highest > 0, (highest - lowest) / np.maximum(highest, 1e-6), 0.0)
    return Color(
        float((red - green).mean()) / brightness,
        float((blue - (red + green) / 2).mean()) / brightness,
        float(saturation.mean()),
    )
