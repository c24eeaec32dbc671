"""The largest error of a mask, and how deep its voxels lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.prompts.users.user import BoolArray, check_object

_EXACT_VOXELS = 1 << 15
"""Up to this size depths are Euclidean (5 ms); above, city-block distances, which take a twentieth."""


@dataclass(frozen=True, eq=False)
class Region:
    """A connected region that one prompt is about.

    Attributes:
        mask: (\\*R) bool, the region in its bounding box.
        corner: first voxel of the bounding box.
        shape: shape of the whole array, (\\*S).
        positive: whether the region belongs to the object (and the mask lacks it).
    """

    mask: BoolArray
    corner: tuple[int, ...]
    shape: tuple[int, ...]
    positive: bool


def largest_component(reference: BoolArray) -> Region:
    """Return the largest connected part of an object.

    Raises:
        DataError: if the object has no voxel.
    """
    check_object(reference)
    region = _largest(reference, reference.astype(np.uint8))
    assert region is not None
    return region


def largest_error(reference: BoolArray, mask: BoolArray) -> Region | None:
    """Return the largest connected region of missed or of wrong voxels; None if there is neither.

    Voxels are connected by faces (edges in 2D). Missed and wrong voxels never share a region.
    """
    check_object(reference, mask)
    kinds = reference.astype(np.uint8)
    kinds += np.uint8(2) * mask
    kinds[kinds == 3] = 0
    return _largest(reference, kinds)


def _largest(reference: BoolArray, kinds: NDArray[np.uint8]) -> Region | None:
    """Find the largest component of equal values; 0 is background."""
    outer = bounding_box(kinds != 0)
    if outer is None:
        return None
    components = cc3d.connected_components(
        np.ascontiguousarray(kinds[outer]), connectivity=6 if kinds.ndim == 3 else 4
    )
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    region = components == sizes.argmax()
    inner = bounding_box(region)
    assert inner is not None
    corner = tuple(a.start + b.start for a, b in zip(outer, inner, strict=True))
    region = np.ascontiguousarray(region[inner])
    first = np.unravel_index(int(region.argmax()), region.shape)
    inside = tuple(int(index) + start for index, start in zip(first, corner, strict=True))
    return Region(region, corner, reference.shape, bool(reference[inside]))


def bounding_box(mask: BoolArray) -> tuple[slice, ...] | None:
    """Return the smallest box that holds every voxel of a mask; None if there is none."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        line = np.asarray(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not line.any():
            return None
        box.append(slice(int(line.argmax()), int(line.size - line[::-1].argmax())))
    return tuple(box)


def depth(mask: BoolArray) -> NDArray[Any]:
    """Return each voxel's distance from the outside in voxels; the array's border counts as outside.

    Args:
        mask: (\\*S) bool.

    Returns:
        (\\*S); 1 is the outermost layer. Euclidean for regions of up to 32,768 voxels, city-block for larger.
    """
    padded = np.pad(mask, 1)
    distances: Any = (
        ndimage.distance_transform_edt(padded)
        if mask.size <= _EXACT_VOXELS
        else ndimage.distance_transform_cdt(padded, "taxicab")
    )
    return distances[(slice(1, -1),) * mask.ndim]
