"""Bounding boxes: what is outside of them need not be looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics import typed_wrappers as untyped
from medseg.metrics.checks import BoolArray

Box = tuple[slice, ...]

_LARGEST_LISTED = 65535


def bounding_box(mask: BoolArray) -> Box:
    """The smallest box of ``mask`` that holds its foreground; empty slices where there is none."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 0))
        mask = np.moveaxis(np.moveaxis(mask, axis, 0)[box[-1]], 0, axis)  # the next axis looks at less
    return tuple(box)


def joint_box(one: Box, two: Box) -> Box:
    """The smallest box that holds both boxes; an empty box adds nothing."""
    if any(side.start == side.stop for side in one):
        return two
    if any(side.start == side.stop for side in two):
        return one
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, two, strict=True))


def crop_pair(one: BoolArray, two: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Views of two masks of one shape, cut to the box that holds the foreground of both."""
    box = joint_box(bounding_box(one), bounding_box(two))
    return one[box], two[box]


def value_boxes(labels: NDArray[np.integer[Any]], values: Iterable[int]) -> dict[int, Box]:
    """The bounding box of each of ``values`` in an integer array, found in one pass where possible."""
    wanted = sorted(set(values))
    nothing = (slice(0, 0),) * labels.ndim
    listed = [value for value in wanted if 1 <= value <= _LARGEST_LISTED]
    found = untyped.value_boxes(labels, listed[-1]) if listed else ()
    boxes = {value: found[value - 1] or nothing for value in listed}
    return boxes | {value: bounding_box(labels == value) for value in wanted if value not in boxes}


def label_box(boxes: Mapping[int, Box], values: Sequence[int]) -> Box:
    """The smallest box that holds the boxes of all ``values``."""
    box = boxes[values[0]]
    for value in values[1:]:
        box = joint_box(box, boxes[value])
    return box
