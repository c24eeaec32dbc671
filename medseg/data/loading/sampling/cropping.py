"""Crops of scans, also beyond their borders, and boxes of another sample."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from medseg.data.loading.cache.compact_storage import CompactImage
from medseg.data.loading.sampling.object_targets import OBJECTS
from medseg.data.loading.workers import Sample
from medseg.geometry import Array

Voxels = Array | CompactImage
Border = Literal["zeros", "reflect"]

VIEW = "view"
"""Key of a sample of an unlabeled case: the image with other random intensities."""


def crop(
    array: Voxels,
    origin: tuple[int, ...],
    patch: tuple[int, ...],
    size: tuple[int, ...],
    border: Border = "zeros",
) -> Array:
    """Crop a region around the center of a patch.

    Args:
        array: (C, *S).
        origin: first voxel of the patch; may be outside the array.
        patch: size of the patch.
        size: size *R of the region.
        border: what is outside the array: 0, or the array mirrored at its outermost voxels, as often as needed.

    Returns:
        A copy (C, *R).

    Example:
        >>> crop(np.arange(1, 5)[None], (0,), (2,), (4,)).tolist()
        [[0, 1, 2, 3]]
        >>> crop(np.arange(1, 5)[None], (0,), (2,), (4,), "reflect").tolist()
        [[2, 1, 2, 3]]
    """
    starts = [o + p // 2 - r // 2 for o, p, r in zip(origin, patch, size, strict=True)]
    if border == "reflect":
        return _crop_mirrored(array, starts, size)
    inside = tuple(
        slice(max(s, 0), max(min(s + r, n), 0)) for s, r, n in zip(starts, size, array.shape[1:], strict=True)
    )
    piece = np.array(array[(slice(None), *inside)])
    if piece.shape[1:] == tuple(size):
        return piece
    out = np.zeros((len(array), *size), dtype=array.dtype)
    target = tuple(
        slice(i.start - s, i.start - s + n) for i, s, n in zip(inside, starts, piece.shape[1:], strict=True)
    )
    out[(slice(None), *target)] = piece
    return out


def _crop_mirrored(array: Voxels, starts: list[int], size: tuple[int, ...]) -> Array:
    indices = [mirrored_indices(s, r, n) for s, r, n in zip(starts, size, array.shape[1:], strict=True)]
    inside = tuple(slice(int(one.min()), int(one.max()) + 1) for one in indices)
    piece = np.array(array[(slice(None), *inside)])
    for axis, (start, index, part) in enumerate(zip(starts, indices, inside, strict=True), start=1):
        if start < 0 or start + len(index) > array.shape[axis]:
            piece = piece.take(index - part.start, axis=axis)
    return piece


def mirrored_indices(start: int, length: int, size: int) -> Array:
    """Return the indices of consecutive voxels of an axis that is mirrored at its first and last voxel.

    Example:
        >>> mirrored_indices(-2, 8, 4).tolist()
        [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if size == 1:
        return np.zeros(length, dtype=np.int64)
    period = 2 * (size - 1)
    index = np.arange(start, start + length) % period
    return np.minimum(index, period - index)


def paste_box(sample: Sample, other: Sample, box: tuple[slice, ...]) -> Sample:
    """Replace a box of a sample by that of another one: image, label, objects and soft labels (CutMix).

    A channel counts as annotated if it is in both.
    """
    mixed = dict(sample)
    if OBJECTS in sample:  # the numbers of the other sample continue those of this one
        numbers = other[OBJECTS]
        other = {**other, OBJECTS: torch.where(numbers > 0, numbers + sample[OBJECTS].max(), 0)}
    for key in ("image", VIEW, "label", "soft", OBJECTS):
        if key in sample:
            mixed[key] = sample[key].clone()
            mixed[key][(slice(None), *box)] = other[key][(slice(None), *box)]
    if "annotated" in sample:
        mixed["annotated"] = sample["annotated"] & other["annotated"]
    return mixed
