"""Objects of a label map in groups of similar size: each group is one array, computed at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.geometry import Array

_LARGEST_BATCH = 2**22
"""Voxels of the boxes of one group."""


@dataclass(frozen=True)
class ObjectBatch:
    """Objects in boxes of one shape, which have a margin of at least one voxel around the object.

    Attributes:
        numbers: (N,) number of each object in the label map.
        masks: (N, *box) bool.
        extents: (N, n) sides of the objects' bounding boxes, voxels.
        voxels: (M,) flat indices in the label map of all voxels of the objects, in the order of ``masks``.
    """

    numbers: NDArray[np.int64]
    masks: NDArray[np.bool_]
    extents: NDArray[np.int64]
    voxels: NDArray[np.int64]

    def scatter(self, values: Array, out: Array) -> None:
        """Write values (N, *box) into a map (*S), contiguous, at the voxels of the objects."""
        out.reshape(-1)[self.voxels] = values[self.masks]


def object_batches(label_map: Array) -> Iterator[ObjectBatch]:
    """Yield the objects of a label map in groups whose boxes have the same shape.

    Args:
        label_map: (*S) integers, 0 for background.
    """
    label_map = np.ascontiguousarray(label_map)
    boxes = [(number, box) for number, box in enumerate(ndimage.find_objects(label_map), 1) if box is not None]
    groups: dict[tuple[int, ...], list[tuple[int, tuple[slice, ...]]]] = defaultdict(list)
    for number, box in boxes:
        groups[tuple(_rounded(part.stop - part.start) + 2 for part in box)].append((number, box))
    if not groups:
        return
    margin = [(1, side) for side in np.max(list(groups), axis=0)]
    padded = np.pad(label_map, margin)
    for shape, members in groups.items():
        step = max(1, _LARGEST_BATCH // int(np.prod(shape)))
        for first in range(0, len(members), step):
            yield _batch(padded, label_map.shape, shape, members[first : first + step])


def _batch(
    padded: Array,
    shape: tuple[int, ...],
    box: tuple[int, ...],
    members: Sequence[tuple[int, tuple[slice, ...]]],
) -> ObjectBatch:
    numbers = np.array([number for number, _ in members], np.int64)
    starts = np.array([[part.start for part in one] for _, one in members], np.int64)
    extents = np.array([[part.stop - part.start for part in one] for _, one in members], np.int64)
    flat = _flat(starts, padded.shape, box)  # the margin of one voxel makes starts those of the boxes
    masks = padded.reshape(-1)[flat] == numbers.reshape(-1, *(1,) * len(box))
    voxels = _flat(starts - 1, shape, box)[masks]
    return ObjectBatch(numbers, masks, extents, voxels)


def _flat(starts: NDArray[np.int64], shape: tuple[int, ...], box: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the flat indices (N, *box) of boxes in an array of a shape; those outside are not valid."""
    strides = np.array([int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))], np.int64)
    offsets: Any = sum(np.ix_(*(np.arange(n) * stride for n, stride in zip(box, strides, strict=True))))
    return (starts @ strides).reshape(-1, *(1,) * len(box)) + offsets


def _rounded(side: int) -> int:
    """Round a side up to the next of 6, 8, 12, 16, 24, 32, 48, 64, …"""
    power = 4
    while True:
        if side <= power + power // 2:
            return power + power // 2
        if side <= 2 * power:
            return 2 * power
        power *= 2
