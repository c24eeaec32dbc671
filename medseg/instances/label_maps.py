"""Components, renumbering and cleaning of label maps of objects."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.geometry import Array

Numbers = NDArray[np.int32]


def split_components(label_map: Array) -> tuple[Numbers, int]:
    """Number the connected parts of all objects 1 … N; diagonal neighbors are connected.

    Example:
        >>> split_components(np.array([[1, 1, 2, 0, 1]]))[0].tolist()
        [[1, 1, 2, 0, 3]]
    """
    if not label_map.size:
        return np.zeros(label_map.shape, np.int32), 0
    cc3d: Any = import_module("cc3d")
    integers = label_map.astype(np.int32, copy=False)
    connectivity = 8 if label_map.ndim == 2 else 26
    parts, count = cc3d.connected_components(
        np.ascontiguousarray(integers), connectivity=connectivity, return_N=True
    )
    return np.asarray(parts).astype(np.int32), int(count)


def component_map(mask: Array) -> tuple[Numbers, int]:
    """Number the connected components of a mask 1 … N; diagonal neighbors are connected."""
    return split_components(mask != 0)


def renumber(label_map: Array, kept: Array | None = None) -> tuple[Numbers, NDArray[np.int64]]:
    """Number the objects of a label map 1 … N, in the order of their numbers.

    Args:
        label_map: (*S) non-negative integers.
        kept: (largest number + 1,) bool, the numbers that stay; all if None.

    Returns:
        The new map, and the old number of each object.
    """
    sizes = np.bincount(label_map.ravel())
    present = sizes > 0
    if kept is not None:
        present &= kept[: len(present)]
    present[0] = False
    old = np.flatnonzero(present)
    table = np.zeros(len(present), np.int32)
    table[old] = np.arange(1, len(old) + 1)
    return table[label_map], old


def keep_largest_parts(label_map: Array) -> Numbers:
    """Keep the largest connected part of each object.

    Example:
        >>> keep_largest_parts(np.array([[1, 1, 0, 1, 2]])).tolist()
        [[1, 1, 0, 0, 2]]
    """
    parts, count = split_components(label_map)
    objects = len(np.unique(label_map[label_map > 0]))
    result = label_map.astype(np.int32)
    if count == objects:
        return result
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    owner = np.zeros(count + 1, np.int64)
    owner[parts.ravel()] = label_map.ravel()
    order = np.lexsort((-sizes[1:], owner[1:])) + 1  # per object, the largest part first
    first = np.ones(len(order), bool)
    first[1:] = owner[order][1:] != owner[order][:-1]
    kept = np.zeros(count + 1, bool)
    kept[order[first]] = True
    result[~kept[parts]] = 0
    return result


def object_means(values: Array, label_map: Array, count: int) -> NDArray[np.float64]:
    """Return the mean of values (*S) over each object 1 … ``count``; 0 for absent ones."""
    flat = label_map.ravel()
    sums = np.bincount(flat, values.ravel().astype(np.float64), count + 1)[1:]
    sizes = np.bincount(flat, minlength=count + 1)[1:]
    return sums / np.maximum(sizes, 1)
