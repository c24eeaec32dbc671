"""Overlaps of the objects of a reference and a prediction, as a sparse list of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Region = tuple[tuple[slice, ...], Array]
"""Box of an object in the image, and its mask within the box."""

_BLOCK = 512
"""Predicted boxes that are compared with the reference at once."""


@dataclass(frozen=True)
class Overlaps:
    """Sizes of the objects of one image, and the pairs that overlap.

    Attributes:
        reference_sizes: (G,) voxels of each reference object, or the volume of its box.
        predicted_sizes: (D,) of each predicted object.
        reference: (P,) index of the reference object of each pair.
        predicted: (P,) index of the predicted object of each pair.
        shared: (P,) voxels or volume that the two share, above 0.
    """

    reference_sizes: Numbers
    predicted_sizes: Numbers
    reference: Indices
    predicted: Indices
    shared: Numbers

    @property
    def ious(self) -> Numbers:
        """(P,) intersection over union of each pair."""
        sizes = self.reference_sizes[self.reference] + self.predicted_sizes[self.predicted]
        return self.shared / (sizes - self.shared)

    def select(self, reference: Flags | None = None, predicted: Flags | None = None) -> Overlaps:
        """Return the overlaps of some objects, whose order is kept.

        Args:
            reference: (G,) bool; None: all.
            predicted: (D,) bool; None: all.
        """
        first = np.ones(len(self.reference_sizes), bool) if reference is None else reference
        second = np.ones(len(self.predicted_sizes), bool) if predicted is None else predicted
        kept = first[self.reference] & second[self.predicted]
        return Overlaps(
            self.reference_sizes[first],
            self.predicted_sizes[second],
            (np.cumsum(first) - 1)[self.reference[kept]],
            (np.cumsum(second) - 1)[self.predicted[kept]],
            self.shared[kept],
        )


def overlaps_of_label_maps(reference: Array, predicted: Array, ignored: Array | None = None) -> Overlaps:
    """Return the overlaps of two label maps, whose objects are in the order of their numbers.

    Ignored voxels are removed from all objects first. Reference objects that lie there entirely are left out,
    and predicted ones that lie there by more than half (Kirillov et al. 2019, arXiv:1801.00868, section 4.2).

    Args:
        reference: (*S) non-negative integers, 0 for background.
        predicted: (*S) likewise.
        ignored: (*S) bool.

    Example:
        >>> overlaps_of_label_maps(np.array([7, 7, 0, 9]), np.array([2, 2, 2, 0])).ious.tolist()
        [0.6666666666666666]
    """
    first, first_sizes = _compact(reference)
    second, second_sizes = _compact(predicted)
    if ignored is not None and ignored.any():
        outside = ~ignored.ravel()
        first, second = first * outside, second * outside
        first_sizes = np.bincount(first, minlength=len(first_sizes))
        second_sizes = np.bincount(second, minlength=len(second_sizes))
        whole = _pairs(first, second, first_sizes, second_sizes)
        return whole.select(*counted_objects(reference, predicted, ignored))
    return _pairs(first, second, first_sizes, second_sizes)


def counted_objects(reference: Array, predicted: Array, ignored: Array | None) -> tuple[Flags, Flags]:
    """Return which objects :func:`overlaps_of_label_maps` keeps, (G,) and (D,) bool; arguments as there."""
    sizes = [_compact(one)[1][1:] for one in (reference, predicted)]
    if ignored is None or not ignored.any():
        return np.ones(len(sizes[0]), bool), np.ones(len(sizes[1]), bool)
    outside = ~ignored.ravel()
    left = [
        np.bincount(_compact(one)[0] * outside, minlength=len(size) + 1)[1:]
        for one, size in zip((reference, predicted), sizes, strict=True)
    ]
    return left[0] > 0, 2 * left[1] >= np.maximum(sizes[1], 1)


def overlaps_of_masks(reference: Sequence[Region], predicted: Sequence[Region]) -> Overlaps:
    """Return the overlaps of objects that are given by their boxes and masks, and may overlap each other.

    Args:
        reference: box and mask of each object.
        predicted: likewise.
    """
    pairs = _touching(_boxes(reference), _boxes(predicted))
    shared = np.array([_shared(reference[int(i)], predicted[int(j)]) for i, j in pairs], np.float64)
    pairs, shared = pairs[shared > 0], shared[shared > 0]
    first, second = (
        np.array([np.count_nonzero(mask) for _, mask in regions], np.float64)
        for regions in (reference, predicted)
    )
    return Overlaps(first, second, pairs[:, 0], pairs[:, 1], shared)


def overlaps_of_boxes(reference: Array, predicted: Array) -> Overlaps:
    """Return the overlaps of boxes.

    Args:
        reference: (G, 2·D) lower corner, then upper corner.
        predicted: (D, 2·D) likewise.
    """
    first, second = np.asarray(reference, np.float64), np.asarray(predicted, np.float64)
    pairs = _touching(first, second)
    axes = first.shape[1] // 2
    a, b = first[pairs[:, 0]], second[pairs[:, 1]]
    sides = np.minimum(a[:, axes:], b[:, axes:]) - np.maximum(a[:, :axes], b[:, :axes])
    return Overlaps(_volumes(first), _volumes(second), pairs[:, 0], pairs[:, 1], sides.prod(axis=1))


def _compact(label_map: Array) -> tuple[Indices, Indices]:
    """Number the objects of a label map 1 … N in order; return the flat map and the sizes, background first."""
    flat = np.asarray(label_map).ravel()
    if flat.size and int(flat.max()) <= 4 * flat.size:
        counts = np.bincount(flat.astype(np.int64, copy=False))
        present = counts > 0
        present[0] = True
        return (np.cumsum(present) - 1)[flat], counts[present]
    values, compact = np.unique(flat, return_inverse=True)
    compact = compact.ravel() + (0 if values.size and values[0] == 0 else 1)
    return compact, np.bincount(compact, minlength=1)


def _pairs(first: Indices, second: Indices, first_sizes: Indices, second_sizes: Indices) -> Overlaps:
    both = (first > 0) & (second > 0)
    keys, shared = np.unique(first[both] * len(second_sizes) + second[both], return_counts=True)
    reference, predicted = np.divmod(keys, max(1, len(second_sizes)))
    return Overlaps(
        first_sizes[1:].astype(np.float64),
        second_sizes[1:].astype(np.float64),
        reference - 1,
        predicted - 1,
        shared.astype(np.float64),
    )


def _boxes(regions: Sequence[Region]) -> Numbers:
    """Return the boxes of regions, (N, 2·D)."""
    rows = [[side.start for side in box] + [side.stop for side in box] for box, _ in regions]
    return np.array(rows, np.float64).reshape(len(rows), len(rows[0]) if rows else 0)


def _volumes(boxes: Numbers) -> Numbers:
    axes = boxes.shape[1] // 2
    return (boxes[:, axes:] - boxes[:, :axes]).prod(axis=1)


def _shared(first: Region, second: Region) -> int:
    """Count the voxels that two objects share, whose boxes overlap."""
    boxes = first[0], second[0]
    common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(*boxes, strict=True)]
    parts = [
        mask[
            tuple(
                slice(low - side.start, high - side.start)
                for (low, high), side in zip(common, box, strict=True)
            )
        ]
        for box, mask in (first, second)
    ]
    return int(np.count_nonzero(parts[0].astype(bool) & parts[1].astype(bool)))


def _touching(first: Numbers, second: Numbers) -> Indices:
    """Return the pairs of boxes that share volume, (P, 2), by the first and then by the second."""
    if not len(first) or not len(second):
        return np.zeros((0, 2), np.int64)
    axes = first.shape[1] // 2
    order = np.argsort(first[:, 0], kind="stable")
    found: list[Indices] = []
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        low, high = first[block, 0].min(), first[block, axes].max()
        near = np.flatnonzero((second[:, 0] < high) & (second[:, axes] > low))
        a, b = first[block][:, None], second[near][None]
        ends = np.minimum(a[..., axes:], b[..., axes:])
        rows, columns = np.nonzero((ends > np.maximum(a[..., :axes], b[..., :axes])).all(axis=2))
        found.append(np.stack([block[rows], near[columns]], axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
