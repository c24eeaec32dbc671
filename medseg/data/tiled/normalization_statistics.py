"""Normalization by statistics of a whole picture that is read piece by piece.

All are exact. Integers of up to 16 bits are counted, and their mean and standard deviation follow from the
counts in whole numbers. Those of other pixels are merged piece by piece in float64 (Chan, Golub and LeVeque
1983). Percentiles are order statistics, found digit by digit (16 bits each) of the pixels' bits.
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
"""Pixels (C, *S) to float32."""

Blocks = Callable[[], Iterable[Array]]
"""Gives the pieces (C, *S) of a picture, from the first one on each time it is called."""

_DIGIT = 16


def normalizer(config: NormalizeConfig, blocks: Blocks) -> Normalize:
    """What ``config`` does to the whole picture, as a function of any part of it.

    ``zscore`` goes through the picture once, ``percentile`` once for each 16 bits of a pixel; the others know
    their numbers.
    """
    if isinstance(config, ZScore):
        return _ZScore(moments(blocks(), nonzero=False), nonzero=False)
    if isinstance(config, ZScoreNonzero):
        return _ZScore(moments(blocks(), nonzero=True), nonzero=True)
    if isinstance(config, Percentile):
        return _Percentile(percentiles(blocks, (config.low, config.high)))
    return config


@dataclass(frozen=True)
class _ZScore:
    moments: list[tuple[float, float]]
    nonzero: bool

    def __call__(self, array: Array) -> Array:
        scaled = [standardize(c, *found) for c, found in zip(array, self.moments, strict=True)]
        if self.nonzero:
            scaled = [np.where(c != 0, s, np.float32(0)) for c, s in zip(array, scaled, strict=True)]
        return np.stack(scaled)


@dataclass(frozen=True)
class _Percentile:
    limits: list[tuple[float, ...]]

    def __call__(self, array: Array) -> Array:
        return np.stack([rescale(c, *limits) for c, limits in zip(array, self.limits, strict=True)])


def moments(blocks: Iterable[Array], *, nonzero: bool) -> list[tuple[float, float]]:
    """Mean and standard deviation of each channel, of all pixels or of those that are not 0."""
    found: list[_Counted | _Merged] = []
    for block in blocks:
        if not found:
            found = [_Counted(block.dtype) if _countable(block.dtype) else _Merged() for _ in block]
        for one, channel in zip(found, block, strict=True):
            one.add(channel[channel != 0] if nonzero else channel.ravel())
    return [one.moments() for one in found]


def _countable(dtype: np.dtype) -> bool:
    return dtype.kind in "bui" and dtype.itemsize <= 2


class _Counted:
    """How often each value of up to 16 bits occurs."""

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


class _Merged:
    """Count, mean and sum of squared differences from it."""

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


def percentiles(blocks: Blocks, wanted: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Percentiles of each channel, linear between neighbors: ``numpy.percentile`` of the whole."""
    first = next(iter(blocks()))
    n = sum(block[0].size for block in blocks())
    places = [(n - 1) * np.true_divide(p, 100) for p in wanted]
    lower = [min(n - 1, math.floor(place)) for place in places]
    upper = [min(n - 1, rank + 1) for rank in lower]
    values = _order_statistics(blocks, first.dtype, len(first), lower + upper)
    shares = np.array([place - rank for place, rank in zip(places, lower, strict=True)])
    return [tuple(_between(v[: len(lower)], v[len(lower) :], shares)) for v in values]


def _between(low: Array, high: Array, share: Array) -> Iterator[float]:
    """NumPy's interpolation, which is exact at both ends."""
    step = np.subtract(high, low)
    return iter(np.where(share >= 0.5, high - step * (1 - share), low + step * share))


def _order_statistics(blocks: Blocks, dtype: np.dtype, channels: int, ranks: list[int]) -> list[Array]:
    """For each channel the values (len(ranks),) at these places of all its values sorted."""
    bits = 8 * dtype.itemsize
    left = [list(ranks) for _ in range(channels)]  # rank among the keys that begin with the prefix
    prefix = [[0] * len(ranks) for _ in range(channels)]
    done = 0
    while done < bits:
        digit = min(_DIGIT, bits - done)
        counts = _digit_counts(blocks, prefix, done, digit, bits)
        for c in range(channels):
            for i, rank in enumerate(left[c]):
                below = np.cumsum(counts[c][prefix[c][i]])
                found = int(np.searchsorted(below, rank, side="right"))
                left[c][i] = rank - (int(below[found - 1]) if found else 0)
                prefix[c][i] = prefix[c][i] << digit | found
        done += digit
    return [_values(np.array(p, np.dtype(f"u{dtype.itemsize}")), dtype) for p in prefix]


def _digit_counts(
    blocks: Blocks, prefix: list[list[int]], done: int, digit: int, bits: int
) -> list[dict[int, Array]]:
    """For each channel and prefix of ``done`` bits: how often each next digit occurs."""
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
    """Unsigned integers in the order of the values, bit for bit."""
    if values.dtype.kind in "bu":
        return values.astype(np.uint8) if values.dtype == bool else values
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    sign = unsigned.type(1 << (8 * values.dtype.itemsize - 1))
    if values.dtype.kind == "i":
        return values.view(unsigned) ^ sign
    keys = (values + values.dtype.type(0)).view(unsigned)  # -0 becomes 0
    return np.where(keys & sign, ~keys, keys | sign)


def _values(keys: Array, dtype: np.dtype) -> Array:
    """The values whose keys these are."""
    if dtype.kind in "bu":
        return keys.astype(dtype)
    sign = keys.dtype.type(1 << (8 * dtype.itemsize - 1))
    if dtype.kind == "i":
        return (keys ^ sign).view(dtype)
    return np.where(keys & sign, keys ^ sign, ~keys).view(dtype)
