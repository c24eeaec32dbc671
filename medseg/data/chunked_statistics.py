"""Statistics of arrays that are too large for temporary copies, computed slab by slab."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medseg.geometry import Array

SLAB = 1 << 20
"""Approximate number of voxels of a slab."""

_TABLE = 1 << 16
"""Maximum range of values that is counted in a table."""


def slabs(array: Array, axis: int | None = None) -> Iterator[tuple[slice, ...]]:
    """Yield indices that cut an array along an axis (default: the longest) into pieces of ``SLAB`` voxels."""
    axis = int(np.argmax(array.shape)) if axis is None else axis
    length = array.shape[axis]
    step = max(1, SLAB * length // max(array.size, 1))
    for start in range(0, length, step):
        yield (*(slice(None),) * axis, slice(start, start + step))


def mean_and_std(array: Array) -> tuple[np.float64, np.float64]:
    """Return mean and population standard deviation of a non-empty array, summed in float64."""
    total = sum(array[part].sum(dtype=np.float64) for part in slabs(array))
    mean = np.float64(total) / array.size
    squares = sum(np.square(array[part] - mean).sum(dtype=np.float64) for part in slabs(array))
    return mean, np.sqrt(np.float64(squares) / array.size)


def is_integral(array: Array) -> bool:
    """Return whether every value is a whole number."""
    if not np.issubdtype(array.dtype, np.floating):
        return True
    return all(np.array_equal(array[part], np.rint(array[part])) for part in slabs(array))


def count_values(label_map: Array) -> dict[int, int]:
    """Return value → number of voxels of a map of whole numbers, in order of the values."""
    if label_map.size == 0:
        return {}
    low, high = int(label_map.min()), int(label_map.max())
    if high - low >= _TABLE:
        values, numbers = np.unique(label_map, return_counts=True)
        return {int(v): int(n) for v, n in zip(values, numbers, strict=True)}
    counts = np.zeros(high - low + 1, np.int64)
    for part in slabs(label_map):
        counts += np.bincount(_places(label_map[part], low).ravel(), minlength=len(counts))
    return {int(v) + low: int(counts[v]) for v in np.flatnonzero(counts)}


def look_up(label_map: Array, table: dict[int, int], dtype: np.dtype) -> Array:
    """Replace each value of a map by its entry in ``table``, which has all values of the map."""
    found = np.empty(label_map.shape, dtype)
    keys = np.array(sorted(table), dtype=np.int64)
    values = np.array([table[int(key)] for key in keys], dtype)
    low, span = int(keys[0]), int(keys[-1]) - int(keys[0]) + 1
    dense = np.zeros(span if span <= _TABLE else 0, dtype)
    if len(dense):
        dense[keys - low] = values
    for part in slabs(label_map):
        piece = label_map[part]
        found[part] = dense[_places(piece, low)] if len(dense) else values[np.searchsorted(keys, piece)]
    return found


def index_voxels(codes: Array, number: int, most: int) -> tuple[Array, list[int], list[int]]:
    """Index at most ``most`` voxels of each encoded value from 0 to ``number`` - 1, evenly spaced.

    Returns:
        The flat indices for all values in one int64 array, the number of voxels of each value, and the offset
        of each value's indices (one entry more than values).
    """
    flat = codes.reshape(-1)
    before = [np.zeros(number, np.int64)]  # voxels of each code before each slab
    for part in slabs(flat):
        before.append(before[-1] + np.bincount(flat[part], minlength=number))
    counts = before[-1]
    ranks = [np.linspace(0, n - 1, min(int(n), most)).astype(np.int64) for n in counts]
    kept: list[list[Array]] = [[] for _ in ranks]
    for i, (part,) in enumerate(slabs(flat)):
        order = np.argsort(flat[part], kind="stable")  # a radix sort for small integers
        starts = np.cumsum(before[i + 1] - before[i]) - (before[i + 1] - before[i])
        for code, wanted in enumerate(ranks):
            first, last = np.searchsorted(wanted, (before[i][code], before[i + 1][code]))
            if last > first:
                here = wanted[first:last] - before[i][code] + starts[code]
                kept[code].append(order[here] + part.start)
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in ranks])])
    found = [one for parts in kept for one in parts]
    voxels = np.concatenate(found) if found else np.zeros(0)
    return voxels.astype(np.int64), counts.tolist(), offsets.tolist()


def _places(values: Array, low: int) -> Array:
    """Subtract the lowest value, in a type that can index an array."""
    if low == 0 and values.dtype in (np.uint8, np.uint16):
        return values
    return values.astype(np.int64) - low
