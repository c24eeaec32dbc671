"""Measurements of the numbered objects of a case: sizes, contacts, parts and holes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.config.base import Spec
from medseg.geometry import Array
from medseg.instances.label_maps import split_components

_LARGEST_BOX = 4_000_000
"""Voxels of the box around an object, above which it is not searched for holes."""


class ObjectFacts(Spec):
    """The objects of one case.

    Attributes:
        sizes: size of each object in mm³ (pixels for pictures), ascending.
        touching: number of objects that share a face with another one.
        in_parts: first voxel of each object that consists of several parts, along the array axes.
        holes: number of objects with holes.
    """

    sizes: tuple[float, ...]
    touching: int = 0
    in_parts: tuple[tuple[int, ...], ...] = ()
    holes: int = 0


def measure_object_facts(objects: Array, spacing: Sequence[float]) -> ObjectFacts:
    """Measure the objects of a case.

    Args:
        objects: (*S) numbers, 0 for background.
        spacing: distance between voxels, mm.

    Example:
        >>> facts = measure_object_facts(np.array([[1, 1, 2, 0, 1]]), (1.0, 1.0))
        >>> facts.sizes, facts.touching, facts.in_parts
        ((1.0, 3.0), 2, ((0, 0),))
    """
    counts = np.bincount(objects.ravel())
    counts[0] = 0
    sizes = np.sort(counts[counts > 0]) * float(np.prod(spacing))
    return ObjectFacts(
        sizes=tuple(round(float(size), 4) for size in sizes),
        touching=len(_touching(objects)),
        in_parts=_in_parts(objects),
        holes=_count_holes(objects),
    )


def _touching(objects: Array) -> NDArray[np.int64]:
    """Return the numbers of the objects that share a face with another one."""
    found: list[Array] = [np.zeros(0, np.int64)]
    for axis in range(objects.ndim):
        first, second = (
            np.take(objects, range(start, objects.shape[axis] + start - 1), axis) for start in (0, 1)
        )
        contact = (first != second) & (first > 0) & (second > 0)
        found += [first[contact].astype(np.int64), second[contact].astype(np.int64)]
    return np.unique(np.concatenate(found))


def _in_parts(objects: Array) -> tuple[tuple[int, ...], ...]:
    """Return the first voxel of each object that has several connected parts."""
    parts, count = split_components(objects)
    owners = np.zeros(count + 1, np.int64)
    owners[parts.ravel()] = objects.ravel()
    numbers, pieces = np.unique(owners[1:], return_counts=True)
    split = numbers[pieces > 1]
    present, first = np.unique(objects.ravel(), return_index=True)
    where = first[np.searchsorted(present, split)]
    return tuple(tuple(int(i) for i in np.unravel_index(flat, objects.shape)) for flat in where)


def _count_holes(objects: Array) -> int:
    """Count the objects that enclose voxels that are not theirs, but not other objects."""
    count = 0
    for number, box in enumerate(ndimage.find_objects(objects.astype(np.int32, copy=False)), start=1):
        if box is None or objects[box].size > _LARGEST_BOX:
            continue
        mask = objects[box] == number
        filled = np.asarray(ndimage.binary_fill_holes(mask))
        count += bool((filled & (objects[box] == 0)).any())
    return count
