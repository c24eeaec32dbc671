"""Images for the page: voxels of at most 16 bits with a scale, windows, and planes of large volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.data.io.pictures import apply_palette
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.geometry import Array
from medseg.report.media.windows import CT_WINDOWS, is_hounsfield
from medseg.server.page.frame import Frame

MOST_VOXELS = 600_000_000
"""Voxels of the largest image that a browser can label."""
_WHOLE_BYTES = 64 << 20
"""Largest image that is sent in one answer; of larger ones, planes are sent."""
_MOST_SAMPLES = 1_000_000


@dataclass(frozen=True)
class PageImage:
    """An image as the page gets it.

    Attributes:
        frame: the axes of the page.
        channels: one array (X, Y, Z) for each channel, or one (X, Y, Z, 3) for colors; uint8, uint16 or int16.
        color: whether the values are red, green and blue.
        scales: for each channel, slope and intercept: the image's value is ``slope * stored + intercept``.
        windows: for each channel, windows by name.
    """

    frame: Frame
    channels: tuple[Array, ...]
    color: bool
    scales: tuple[tuple[float, float], ...]
    windows: tuple[dict[str, tuple[float, float]], ...]

    @classmethod
    def of(cls, scan: Scan) -> PageImage:
        """Prepare a scan for the page.

        Raises:
            DataError: it has more voxels than a browser can label.
        """
        frame = Frame.of(scan)
        voxels = int(np.prod(frame.shape))
        if voxels > MOST_VOXELS:
            raise DataError(
                f"the image has {voxels:,} voxels, the page shows at most {MOST_VOXELS:,}",
                hint="Annotate tiles of it.",
            )
        array = apply_palette(scan) if scan.kind == "picture" else scan.array
        if len(array) == 3 and not frame.is_patient:
            colors = np.moveaxis(_as_bytes(array), 0, -1)
            return cls(frame, (frame.to_page(colors),), True, ((1.0, 0.0),), ({"full": (0.0, 255.0)},))
        packed = [_pack(channel) for channel in array]
        windows = tuple(_windows(channel, scan, frame) for channel in array)
        channels = tuple(frame.to_page(stored) for stored, _, _ in packed)
        return cls(frame, channels, False, tuple((slope, start) for _, slope, start in packed), windows)

    @property
    def is_whole(self) -> bool:
        """Whether a channel is sent in one answer."""
        return self.channels[0].nbytes <= _WHOLE_BYTES

    def describe(self) -> dict[str, Any]:
        """Return what the page needs to know, for JSON."""
        spacing = self.frame.spacing
        return {
            "shape": self.frame.page_shape,
            "spacing": [float(one) for one in spacing],
            "patient": self.frame.is_patient,
            "color": self.color,
            "whole": self.is_whole,
            "channels": len(self.channels),
            "scales": [
                {"slope": slope, "intercept": start, "dtype": str(channel.dtype)}
                for (slope, start), channel in zip(self.scales, self.channels, strict=True)
            ],
            "windows": [
                {"channel": index, "name": name, "low": low, "high": high}
                for index, windows in enumerate(self.windows)
                for name, (low, high) in windows.items()
            ],
        }

    def voxels(self, channel: int) -> bytes:
        """Return all values of a channel, x fastest (colors: red, green and blue of a pixel together)."""
        return _bytes(self.channels[channel], self.color)

    def plane(self, channel: int, axis: int, index: int) -> bytes:
        """Return the values of a plane, its first axis fastest."""
        return _bytes(self.channels[channel].take(index, axis=axis), self.color)


def _bytes(array: Array, color: bool) -> bytes:
    """Return the bytes of an array with its first spatial axis fastest and colors together."""
    spatial = array.ndim - color
    order = (*reversed(range(spatial)), *range(spatial, array.ndim))
    return (
        np.ascontiguousarray(array.transpose(order)).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    )


def _as_bytes(colors: Array) -> Array:
    """Return colors as uint8."""
    if colors.dtype == np.uint8:
        return colors
    if colors.dtype == np.uint16:
        return (colors >> 8).astype(np.uint8)
    low, high = _range(colors)
    return np.clip(255 * (np.nan_to_num(colors) - low) / (high - low), 0, 255).astype(np.uint8)


def _pack(channel: Array) -> tuple[Array, float, float]:
    """Return stored values, slope and intercept; exact if the values are integers of at most 16 bits."""
    if channel.dtype in (np.uint8, np.uint16, np.int16):
        return channel, 1.0, 0.0
    if channel.dtype == bool:
        return channel.astype(np.uint8), 1.0, 0.0
    if channel.dtype.kind in "iu":
        low, high = int(channel.min()), int(channel.max())
        if low >= -(1 << 15) and high < 1 << 15:
            return channel.astype(np.int16), 1.0, 0.0
    low, high = _range(channel)
    slope = (high - low) / 65535
    stored = np.empty(channel.shape, np.uint16)
    for index in range(len(channel)):  # a slice at a time: memory
        values = (channel[index].astype(np.float64) - low) * (1 / slope)
        np.nan_to_num(values, copy=False, nan=0.0)
        stored[index] = np.rint(np.clip(values, 0, 65535, out=values), out=values)
    return stored, slope, low


def _range(values: Array) -> tuple[float, float]:
    """Return the finite range of values, without a few that are far away from all others."""
    finite = _samples(values)
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    most = np.percentile(finite, (0.01, 99.99))
    if high - low > 50 * (most[1] - most[0]) > 0:
        low, high = float(most[0]), float(most[1])
    return (low, high) if low < high else (low, low + 1.0)


def _samples(values: Array) -> Array:
    flat = np.ravel(values)
    samples = flat[:: max(1, flat.size // _MOST_SAMPLES)].astype(np.float64)
    return samples[np.isfinite(samples)]


def _windows(channel: Array, scan: Scan, frame: Frame) -> dict[str, tuple[float, float]]:
    """Return windows by name; the first one is shown."""
    samples = _samples(channel)
    if samples.size == 0:
        return {"full": (0.0, 1.0)}
    brighter = samples[samples > samples.min()]
    low, high = np.percentile(brighter if brighter.size else samples, (1, 99.5))
    percentiles = (float(low), float(high)) if low < high else _range(channel)
    full = (float(samples.min()), float(max(samples.max(), samples.min() + 1e-6)))
    if frame.is_patient and is_hounsfield(channel, scan.modality):
        return {
            **{str(name): window for name, window in CT_WINDOWS.items()},
            "contrast": percentiles,
            "full": full,
        }
    if channel.dtype == np.uint8 and len(frame.shape) == 2:
        return {"full": (0.0, 255.0), "contrast": percentiles}
    return {"contrast": percentiles, "full": full}
