"""Numbers of objects in label files: ``data.instances``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import DataError
from medseg.geometry import Array

InstanceSource = Literal["keep", "components"]
"""``keep``: label files number the objects; ``components``: connected parts of each label are its objects."""

LARGEST_NUMBER = 2**23 - 1
"""Largest number of an object: numbers and label codes share 31 bits when a patch is transformed."""

_CODE_BITS = 8
MOST_LABELS = 2**_CODE_BITS - 1
"""Largest number of labels, the background included; one code is that of ignored voxels."""


def number_objects(values: Array) -> NDArray[np.int32]:
    """Number the values other than 0 in ascending order, 1 … N.

    Raises:
        DataError: a value is negative, or there are more than :data:`LARGEST_NUMBER` values.

    Example:
        >>> number_objects(np.array([0, 70000, 5, 5])).tolist()
        [0, 2, 1, 1]
    """
    present, index = np.unique(values, return_inverse=True)
    if len(present) and present[0] < 0:
        raise DataError(
            f"a label map of objects has the value {present[0]}; expected 0 for background and a number "
            "for each object",
            hint=f"Set data.labels.ignore_value={present[0]} if such voxels are not to count.",
        )
    numbers = np.cumsum(present != 0)
    if len(numbers) and numbers[-1] > LARGEST_NUMBER:
        raise DataError(f"{numbers[-1]} objects in one label map; expected at most {LARGEST_NUMBER}")
    return np.where(present != 0, numbers, 0).astype(np.int32)[index].reshape(values.shape)


def join_maps(maps: Iterable[tuple[int, Array]], shape: tuple[int, ...]) -> tuple[Array, NDArray[np.int32]]:
    """Join maps of numbered objects, one for each label, into one.

    Where objects overlap, that of the later map is kept.

    Args:
        maps: value of the label, and its map (*S) of numbers.
        shape: *S.

    Returns:
        (*S) values, and (*S) numbers of the objects.
    """
    values, objects = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for value, numbers in maps:
        own = number_objects(numbers)
        inside = own > 0
        values[inside] = value
        objects[inside] = own[inside] + objects.max(initial=0)
    return values, objects


def pack_objects(codes: Array, objects: Array) -> NDArray[np.int32]:
    """Combine the label code and the object of each voxel in one number, to move both by one interpolation.

    Example:
        >>> [part.tolist() for part in unpack_objects(pack_objects(np.array([2]), np.array([70])))]
        [[2], [70]]
    """
    return codes.astype(np.int32) | (objects.astype(np.int32) << _CODE_BITS)


def unpack_objects(packed: Array) -> tuple[Array, Array]:
    """Return the label codes and the objects."""
    return packed & ((1 << _CODE_BITS) - 1), packed >> _CODE_BITS
