"""Normalization with the statistics of a whole picture that is read piece by piece.

The statistics are exact. Integers of up to 16 bits are counted, and mean and standard deviation are computed
from the counts in integer arithmetic. Moments of other pixels are merged piece by piece in float64 (Chan, Golub
and LeVeque 1983). Percentiles are order statistics, determined by a radix selection with digits of 16 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from medseg.data.preprocessing.normalization import (
    NormalizeConfig,
    Percentile,
    ZScore,
    ZScoreNonzero,
    rescale,
    standardize,
)
from medseg.geometry import Array

Normalize = Callable[[Array], Array]
"""Maps pixels (C, *S) to float32."""

Blocks = Callable[[], Iterable[Array]]
"""Returns the pieces (C, *S) of a picture, starting with the first on each call."""

_DIGIT_BITS = 16


def fit_normalization(config: NormalizeConfig, blocks: Blocks) -> Normalize:
    """Fit a normalization to a whole picture.

    ``zscore`` reads the picture once, ``percentile`` once per 16 bits of a pixel; the other schemes do not read
    it.

    Args:
        config: the normalization.
        blocks: returns the pieces of the picture.

    Returns:
        A function that normalizes any part of the picture.
    """
    if isinstance(config, ZScore):
        return _FittedZScore(moments(blocks(), nonzero=False), nonzero=False)
    if isinstance(config, ZScoreNonzero):
        return _FittedZScore(moments(blocks(), nonzero=True), nonzero=True)
    if isinstance(config, Percentile):
        return _FittedPercentile(percentiles(blocks, (config.low, config.high)))
    return config


@dataclass(frozen=True)
class _FittedZScore:
    moments: list[tuple[float, float]]
    nonzero: bool

    def __call__(self, array: Array) -> Array:
        scaled = [standardize(c, *values) for c, values in zip(array, self.moments, strict=True)]
        if self.nonzero:
            scaled = [np.where(c != 0, s, np.float32(0)) for c, s in zip(array, scaled, strict=True)]
        return np.stack(scaled)


@dataclass(frozen=True)
class _FittedPercentile:
    limits: list[tuple[float, ...]]

    def __call__(self, array: Array) -> Array:
        return np.stack([rescale(c, *limits) for c, limits in zip(array, self.limits, strict=True)])


def moments(blocks: Iterable[Array], *, nonzero: bool) -> list[tuple[float, float]]:
    """Compute mean and standard deviation of each channel, over all or over the nonzero pixels."""
    channels: list[_CountedMoments | _MergedMoments] = []
    for block in blocks:
        if not channels:
            channels = [
                _CountedMoments(block.dtype) if _countable(block.dtype) else _MergedMoments() for _ in block
            ]
        for one, channel in zip(channels, block, strict=True):
            one.add(channel[channel != 0] if nonzero else channel.ravel())
    return [one.moments() for one in channels]


def _countable(dtype: np.dtype) -> bool:
    return dtype.kind in "bui" and dtype.itemsize <= 2


class _CountedMoments:
    """Moments of integers of up to 16 bits, from the counts of the values."""

    def __init__(self, dtype: np.dtype) -> None:
        self.low = np.iinfo(dtype).min
        self.counts = np.zeros(np.iinfo(dtype).max - self.low + 1, np.int64)

    def add(self, values: Array) -> None:
        shifted = values if self.low == 0 else values.astype(np.int32) - self.low
        self.counts += np.bincount(shifted, minlength=len(self.counts))

    def moments(self) -> tuple[float, float]:
        present = np.flatnonzero(self.counts)
        pairs = [(int(v) + self.low, int(self.counts[v])) for v in present]
        n = sum(count for _, count in pairs)
        if n == 0:
            return 0.0, 0.0
        total = sum(v * count for v, count in pairs)
        squares = sum(v * v * count for v, count in pairs)
        return total / n, math.sqrt(Fraction(n * squares - total * total, n * n))


class _MergedMoments:
    """Moments merged piece by piece: count, mean and sum of squared deviations."""

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: Array) -> None:
        if values.size == 0:
            return
        n, mean = values.size, float(values.mean(dtype=np.float64))
        squares = float(((values - np.float64(mean)) ** 2).sum())
        total, step = self.n + n, mean - self.mean
        self.squares += squares + step * step * self.n * n / total
        self.mean += step * n / total
        self.n = total

    def moments(self) -> tuple[float, float]:
        return (self.mean, math.sqrt(self.squares / self.n)) if self.n else (0.0, 0.0)


def percentiles(blocks: Blocks, percents: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Compute percentiles of each channel, equal to ``numpy.percentile`` of the whole picture."""
    first = next(iter(blocks()))
    n = sum(block[0].size for block in blocks())
    positions = [(n - 1) * np.true_divide(p, 100) for p in percents]
    lower = [min(n - 1, math.floor(position)) for position in positions]
    upper = [min(n - 1, rank + 1) for rank in lower]
    values = _order_statistics(blocks, first.dtype, len(first), lower + upper)
    shares = np.array([position - rank for position, rank in zip(positions, lower, strict=True)])
    return [tuple(_interpolate(v[: len(lower)], v[len(lower) :], shares)) for v in values]


def _interpolate(low: Array, high: Array, share: Array) -> Iterator[float]:
    """Linear interpolation as in NumPy, exact at both ends."""
    step = np.subtract(high, low)
    return iter(np.where(share >= 0.5, high - step * (1 - share), low + step * share))


def _order_statistics(blocks: Blocks, dtype: np.dtype, channels: int, ranks: list[int]) -> list[Array]:
    """For each channel, the values (len(ranks),) at these positions of its sorted values."""
    bits = 8 * dtype.itemsize
    left = [list(ranks) for _ in range(channels)]  # rank among the keys with the prefix
    prefix = [[0] * len(ranks) for _ in range(channels)]
    done = 0
    while done < bits:
        digit = min(_DIGIT_BITS, bits - done)
        counts = _digit_counts(blocks, prefix, done, digit, bits)
        for c in range(channels):
            for i, rank in enumerate(left[c]):
                below = np.cumsum(counts[c][prefix[c][i]])
                next_digit = int(np.searchsorted(below, rank, side="right"))
                left[c][i] = rank - (int(below[next_digit - 1]) if next_digit else 0)
                prefix[c][i] = prefix[c][i] << digit | next_digit
        done += digit
    return [_values(np.array(p, np.dtype(f"u{dtype.itemsize}")), dtype) for p in prefix]


def _digit_counts(
    blocks: Blocks, prefix: list[list[int]], done: int, digit: int, bits: int
) -> list[dict[int, Array]]:
    """For each channel and prefix of ``done`` bits, count the occurrences of each next digit."""
    counts = [{p: np.zeros(1 << digit, np.int64) for p in one} for one in prefix]
    shift, mask = bits - done - digit, (1 << digit) - 1
    for block in blocks():
        for channel, own in zip(block, counts, strict=True):
            keys = _keys(channel.ravel())
            for p, count in own.items():
                chosen = keys if done == 0 else keys[keys >> (bits - done) == p]
                count += np.bincount((chosen >> shift & mask).astype(np.int64), minlength=len(count))
    return counts


def _keys(values: Array) -> Array:
    """Map values to unsigned integers with the same order."""
    if values.dtype.kind in "bu":
        return values.astype(np.uint8) if values.dtype == bool else values
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    sign = unsigned.type(1 << (8 * values.dtype.itemsize - 1))
    if values.dtype.kind == "i":
        return values.view(unsigned) ^ sign
    keys = (values + values.dtype.type(0)).view(unsigned)  # -0 becomes 0
    return np.where(keys & sign, ~keys, keys | sign)


def _values(keys: Array, dtype: np.dtype) -> Array:
    """Inverse of :func:`_keys`."""
    if dtype.kind in "bu":
        return keys.astype(dtype)
    sign = keys.dtype.type(1 << (8 * dtype.itemsize - 1))
    if dtype.kind == "i":
        return (keys ^ sign).view(dtype)
    return np.where(keys & sign, keys ^ sign, ~keys).view(dtype)
