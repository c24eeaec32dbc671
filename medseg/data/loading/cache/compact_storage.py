"""Compact storage of images in the cache: 8 or 16 bits per voxel if precise enough, decoded patch by patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.data.chunked_statistics import is_integral, mean_and_std, slabs
from medseg.data.preprocessing.normalization import NormalizeConfig
from medseg.geometry import Array

_MAX_LEVEL = 2**16 - 1
_LEVELS_PER_DEVIATION = 1024
"""Least number of quantization levels per standard deviation of a normalized image."""
_LEVELS_PER_UNIT = 16
"""Quantization levels per unit of a file's integers, if resampling turned them into fractions."""
_LINEAR_TOLERANCE = 1e-6
"""Error, relative to the largest value, up to which a normalized image counts as linear in its raw values."""


@dataclass(frozen=True)
class QuantizedImage:
    """A (C, *S) image as integer levels: channel c is ``levels[c] * scale[c] + offset[c]``.

    Attributes:
        levels: (C, *S) uint8 or uint16.
        scale: factor of each channel.
        offset: offset of each channel.
    """

    levels: Array
    scale: tuple[float, ...]
    offset: tuple[float, ...]


class CompactImage:
    """A (C, *S) float32 image that is decoded when it is converted to an array.

    Indexing reads nothing and keeps the channels: ``np.asarray(image[:, 3:5])`` decodes two planes.

    Args:
        quantized: the stored levels.
        normalize: normalization applied after decoding, if any.

    Example:
        >>> image = CompactImage(QuantizedImage(np.array([[0, 2]], np.uint8), (0.5,), (1.0,)))
        >>> np.asarray(image).tolist()
        [[1.0, 2.0]]
    """

    dtype = np.dtype(np.float32)

    def __init__(self, quantized: QuantizedImage, normalize: NormalizeConfig | None = None) -> None:
        self._quantized = quantized
        self._normalize = normalize

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *S)."""
        return self._quantized.levels.shape

    @property
    def ndim(self) -> int:
        """Number of axes, including the channels."""
        return len(self.shape)

    def __len__(self) -> int:
        """Number of channels."""
        return self.shape[0]

    def __getitem__(self, index: tuple[slice | int, ...]) -> CompactImage:
        """Select a region with all channels, without reading it."""
        quantized = self._quantized
        region = QuantizedImage(quantized.levels[index], quantized.scale, quantized.offset)
        return CompactImage(region, self._normalize)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Decode the image."""
        if copy is False:
            raise ValueError("decoding an image requires a copy")
        decoded = self._quantized.levels.astype(np.float32)
        for channel, scale, offset in zip(decoded, self._quantized.scale, self._quantized.offset, strict=True):
            if scale != 1:
                channel *= np.float32(scale)
            if offset != 0:
                channel += np.float32(offset)
        if self._normalize is not None:
            decoded = self._normalize(decoded)
        return decoded if dtype is None else decoded.astype(dtype, copy=False)


def quantize_intensities(array: Array, *, integral: bool) -> QuantizedImage | None:
    """Quantize an image (C, *S) that is not normalized.

    Integers are stored exactly. Resampled integers have 16 levels per unit, an error of at most 1/32.

    Args:
        array: (C, *S).
        integral: whether the values were integers before resampling.

    Returns:
        The quantized image, or None if 16 bits are not enough.
    """
    steps = 1 if is_integral(array) else _LEVELS_PER_UNIT
    if steps > 1 and not integral:
        return None
    lows = [int(np.floor(channel.min())) for channel in array]
    spans = [(float(channel.max()) - low) * steps for channel, low in zip(array, lows, strict=True)]
    if max(spans) > _MAX_LEVEL or max(abs(low) for low in lows) > 2**23:
        return None
    return _quantize(array, [1 / steps] * len(array), [float(low) for low in lows], max(spans))


def quantize_normalized(array: Array, raw: Array | None) -> QuantizedImage | None:
    """Quantize a normalized image (C, *S).

    If the image is linear in the integers of ``raw``, those are stored: exact up to the rounding of float32.
    Otherwise the standard deviation of a channel has at least 1024 levels, an error of at most 1/2048 standard
    deviations. Zeros stay exactly 0.

    Args:
        array: (C, *S) float32, normalized.
        raw: (C, *S) before normalization, or None if the image was resampled.

    Returns:
        The quantized image, or None if 16 bits are not enough.
    """
    if raw is not None and is_integral(raw):
        quantized = _quantize_linear(array, raw)
        if quantized is not None:
            return quantized
    scales, offsets, spans = [], [], []
    for channel in array:
        low, high = float(channel.min()), float(channel.max())
        step = float(np.float32((high - low) / (_MAX_LEVEL - 2)))
        if step == 0 or step * _LEVELS_PER_DEVIATION > float(mean_and_std(channel)[1]):
            return None
        first = np.floor(low / step)  # makes zero a level
        scales.append(step)
        offsets.append(float(np.float32(first) * np.float32(step)))
        spans.append((high - offsets[-1]) / step)
    return _quantize(array, scales, offsets, max(spans)) if max(spans) <= _MAX_LEVEL else None


def _quantize_linear(array: Array, raw: Array) -> QuantizedImage | None:
    scales, offsets, lows, spans = [], [], [], []
    for channel, gray in zip(array, raw, strict=True):
        low, high = float(gray.min()), float(gray.max())
        if high - low > _MAX_LEVEL:
            return None
        first, last = (float(channel.min()), float(channel.max()))
        scales.append((last - first) / (high - low) if high > low else 0.0)
        offsets.append(first)
        lows.append(low)
        spans.append(high - low)
    quantized = _quantize(raw, [1.0] * len(raw), lows, max(spans))
    linear = QuantizedImage(quantized.levels, tuple(scales), tuple(offsets))
    decoded, limit = CompactImage(linear), _LINEAR_TOLERANCE * max(1.0, float(np.abs(array).max()))
    exact = all(np.abs(np.asarray(decoded[part]) - array[part]).max() <= limit for part in slabs(array, 1))
    return linear if exact else None


def _quantize(array: Array, scales: list[float], offsets: list[float], span: float) -> QuantizedImage:
    """Round ``array`` to the nearest levels."""
    levels = np.empty(array.shape, np.uint8 if span <= 255 else np.uint16)
    for part in slabs(array, 1):
        for into, channel, scale, offset in zip(levels[part], array[part], scales, offsets, strict=True):
            piece = channel.astype(np.float64)
            piece -= offset
            if scale != 1:
                piece /= scale
                np.rint(piece, out=piece)
            into[...] = piece
    return QuantizedImage(levels, tuple(scales), tuple(offsets))
