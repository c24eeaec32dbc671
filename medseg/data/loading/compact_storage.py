"""Images in the cache: 8 or 16 bits a voxel where that is exact enough, decoded patch by patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.data.chunked_statistics import is_integral, mean_and_std, slabs
from medseg.data.preprocessing.normalization import NormalizeConfig
from medseg.geometry import Array

_MOST = 2**16 - 1
_STEPS_A_DEVIATION = 1024
"""Steps of a code that a standard deviation of the normalized image has at least."""
_STEPS_A_GRAY_LEVEL = 16
"""Steps of a code that a gray level of the file has, where resampling made fractions of it."""
_LINEAR = 1e-6
"""Error, relative to the largest value, up to which a normalized image counts as linear in its gray values."""


@dataclass(frozen=True)
class QuantizedImage:
    """An image (C, *S) as codes: channel c is ``codes[c] * scale[c] + offset[c]``."""

    codes: Array
    scale: tuple[float, ...]
    offset: tuple[float, ...]


class CompactImage:
    """A (C, *S) float32 image that is decoded when it becomes an array; indexing it reads nothing.

    Indices keep the channels: ``np.asarray(image[:, 3:5])``.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, coded: QuantizedImage, normalize: NormalizeConfig | None = None) -> None:
        self._coded = coded
        self._normalize = normalize

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *S)."""
        return self._coded.codes.shape

    @property
    def ndim(self) -> int:
        """Axes, that of the channels included."""
        return len(self.shape)

    def __len__(self) -> int:
        """Channels."""
        return self.shape[0]

    def __getitem__(self, index: tuple[slice | int, ...]) -> CompactImage:
        """A part with all channels."""
        coded = self._coded
        return CompactImage(QuantizedImage(coded.codes[index], coded.scale, coded.offset), self._normalize)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Decode."""
        if copy is False:
            raise ValueError("decoding an image makes a copy")
        found = self._coded.codes.astype(np.float32)
        for channel, scale, offset in zip(found, self._coded.scale, self._coded.offset, strict=True):
            if scale != 1:
                channel *= np.float32(scale)
            if offset != 0:
                channel += np.float32(offset)
        if self._normalize is not None:
            found = self._normalize(found)
        return found if dtype is None else found.astype(dtype, copy=False)


def quantize_intensities(array: Array, *, integral: bool) -> QuantizedImage | None:
    """Codes of an image (C, *S) that is not normalized; none if 16 bits are too few.

    Exact for whole numbers. Where they were resampled (``integral`` says that they were whole numbers), a gray
    level has 16 steps: an error of at most 1/32.
    """
    steps = 1 if is_integral(array) else _STEPS_A_GRAY_LEVEL
    if steps > 1 and not integral:
        return None
    lows = [int(np.floor(channel.min())) for channel in array]
    spans = [(float(channel.max()) - low) * steps for channel, low in zip(array, lows, strict=True)]
    if max(spans) > _MOST or max(abs(low) for low in lows) > 2**23:
        return None
    return _coded(array, [1 / steps] * len(array), [float(low) for low in lows], max(spans))


def quantize_normalized(array: Array, raw: Array | None) -> QuantizedImage | None:
    """Codes of a normalized image (C, *S); none if 16 bits are too few.

    Where it is linear in the whole numbers of ``raw`` the codes are those: exact but for float32's rounding.
    Else a channel's standard deviation has at least 1024 steps, an error of at most 1/2048; zeros stay zeros.
    """
    if raw is not None and is_integral(raw):
        coded = _lattice(array, raw)
        if coded is not None:
            return coded
    scales, offsets, spans = [], [], []
    for channel in array:
        low, high = float(channel.min()), float(channel.max())
        step = float(np.float32((high - low) / (_MOST - 2)))
        if step == 0 or step * _STEPS_A_DEVIATION > float(mean_and_std(channel)[1]):
            return None
        first = np.floor(low / step)  # zero is on the lattice
        scales.append(step)
        offsets.append(float(np.float32(first) * np.float32(step)))
        spans.append((high - offsets[-1]) / step)
    return _coded(array, scales, offsets, max(spans)) if max(spans) <= _MOST else None


def _lattice(array: Array, raw: Array) -> QuantizedImage | None:
    scales, offsets, lows, spans = [], [], [], []
    for channel, gray in zip(array, raw, strict=True):
        low, high = float(gray.min()), float(gray.max())
        if high - low > _MOST:
            return None
        first, last = (float(channel.min()), float(channel.max()))
        scales.append((last - first) / (high - low) if high > low else 0.0)
        offsets.append(first)
        lows.append(low)
        spans.append(high - low)
    found = _coded(raw, [1.0] * len(raw), lows, max(spans))
    coded = QuantizedImage(found.codes, tuple(scales), tuple(offsets))
    stored, limit = CompactImage(coded), _LINEAR * max(1.0, float(np.abs(array).max()))
    exact = all(np.abs(np.asarray(stored[part]) - array[part]).max() <= limit for part in slabs(array, 1))
    return coded if exact else None


def _coded(array: Array, scales: list[float], offsets: list[float], span: float) -> QuantizedImage:
    """Codes of ``array``, rounded to the nearest."""
    codes = np.empty(array.shape, np.uint8 if span <= 255 else np.uint16)
    for part in slabs(array, 1):
        for into, channel, scale, offset in zip(codes[part], array[part], scales, offsets, strict=True):
            piece = channel.astype(np.float64)
            piece -= offset
            if scale != 1:
                piece /= scale
                np.rint(piece, out=piece)
            into[...] = piece
    return QuantizedImage(codes, tuple(scales), tuple(offsets))
