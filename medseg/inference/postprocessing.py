"""What is done to a decision before it is written: components that cannot be, and holes."""

from __future__ import annotations

from typing import Annotated

import cc3d
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import find_objects

from medseg.config.base import Spec
from medseg.geometry import Array

Size = Annotated[float, Field(gt=0)]
Box = tuple[slice, ...]


class PostprocessConfig(Spec):
    """Steps on the components of labels or regions, by name, on the scan's own grid; in this order.

    Voxels of one label that touch by face, edge or corner are one component.

    Attributes:
        smallest: components of less than this are taken away: mm³ in volumes, pixels in pictures.
        largest: only the largest component is kept.
        fill: holes are filled: background that the label encloses wholly.
    """

    smallest: dict[str, Size] = Field(default_factory=dict)
    largest: tuple[str, ...] = ()
    fill: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """Every label that a step is for."""
        return {*self.smallest, *self.largest, *self.fill}

    def does_as(self, other: PostprocessConfig) -> bool:
        """Whether the steps are the same as another's, in whatever order labels are named."""
        return (self.smallest, set(self.largest), set(self.fill)) == (
            other.smallest, set(other.largest), set(other.fill)
        )  # fmt: skip

    def of_classes(self, classes: Array, names: tuple[str, ...], voxel: float) -> Array:
        """A map of classes (*S) after the steps; what is taken away becomes class 0.

        ``names`` are those of the classes, ``voxel`` is a voxel's size (mm³, or 1 in pictures).
        """
        chosen = {i: name for i, name in enumerate(names) if i and name in self.names}  # class 0 stays
        boxes = {i: box for i, box in _boxes(classes).items() if i in chosen}
        if not boxes:
            return classes
        result = classes.copy()
        pruned = [i for i in boxes if chosen[i] in self.smallest or chosen[i] in self.largest]
        if pruned:
            box = _around([boxes[i] for i in pruned])
            least = {i: self.smallest.get(chosen[i], 0.0) / voxel for i in pruned}
            result[box] = _pruned(classes[box], least, {i for i in pruned if chosen[i] in self.largest})
        filled = [i for i in boxes if chosen[i] in self.fill]
        remaining = _boxes(result) if filled else {}  # smaller where parts were taken away
        for index, box in ((i, remaining[i]) for i in filled if i in remaining):
            holes = _fill_holes(result[box] == index)
            holes &= (result[box] == 0) & (classes[box] <= index)  # later labels have not been pruned yet
            result[box][holes] = index
        return result

    def of_regions(self, regions: Array, names: tuple[str, ...], voxel: float) -> Array:
        """Masks (R, *S) bool of regions after the steps."""
        return np.stack([self.of_mask(mask, name, voxel) for mask, name in zip(regions, names, strict=True)])

    def of_mask(self, mask: Array, name: str, voxel: float) -> Array:
        """One label's mask (*S) bool after the steps."""
        box = _boxes(mask.astype(np.uint8)).get(1) if name in self.names else None
        if box is None:
            return mask
        part = mask[box]
        if name in self.smallest or name in self.largest:
            least = {1: self.smallest.get(name, 0.0) / voxel}
            part = _pruned(part.astype(np.uint8), least, {1} if name in self.largest else set()) > 0
        if name in self.fill:
            part = _fill_holes(part)
        result = np.zeros_like(mask)
        result[box] = part
        return result


def _boxes(classes: Array) -> dict[int, Box]:
    """The bounding box of each class above 0."""
    return {i: box for i, box in enumerate(find_objects(classes), start=1) if box is not None}


def _around(boxes: list[Box]) -> Box:
    """The bounding box of several boxes."""
    return tuple(
        slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True)
    )


def _fill_holes(mask: Array) -> Array:
    """A mask (*S) with what it encloses: the outside is the component of its complement around it, whose voxels
    touch by faces (edges in pictures). The same as SciPy's ``binary_fill_holes``, in one pass.
    """
    complement = np.pad(~mask, 1, constant_values=True)
    parts = np.asarray(cc3d.connected_components(complement, connectivity=4 if mask.ndim == 2 else 6))
    outside = parts == parts[(0,) * mask.ndim]
    return ~outside[(slice(1, -1),) * mask.ndim]


def _pruned(classes: Array, least: dict[int, float], largest: set[int]) -> Array:
    """A map of classes (*S) without components of fewer than ``least`` voxels, and of the classes ``largest``
    without all but the largest; classes that are not in ``least`` stay.

    All classes' components are found in one pass. Of components of one size the first counts as the largest,
    the first axis running fastest.
    """
    numbered, sizes, classes_of = _components(classes, list(least))
    kept = np.zeros(len(sizes), bool)
    for index, voxels in least.items():
        own = np.flatnonzero((classes_of == index) & (sizes >= voxels))
        if index in largest and len(own):
            own = own[sizes[own].argmax()]
        kept[own] = True
    kept[0] = True
    result = classes.copy(order="F")
    for part, numbers in zip(_slabs(result), _slabs(numbered), strict=True):
        part[~kept[numbers]] = 0
    return result


def _components(classes: Array, chosen: list[int]) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Numbered components (*S) of the chosen classes, 0 outside; the size of each, and its class."""
    table = np.zeros(max(int(classes.max()), *chosen) + 1, np.uint8 if max(chosen) < 256 else np.uint16)
    table[chosen] = chosen
    named = table[np.asfortranarray(classes)]
    numbered = cc3d.connected_components(named, connectivity=8 if classes.ndim == 2 else 26)
    numbered = np.asarray(numbered)
    sizes = np.zeros(int(numbered.max()) + 1, np.int64)
    classes_of = np.zeros(len(sizes), np.int64)
    for numbers, values in zip(_slabs(numbered), _slabs(named), strict=True):
        sizes += np.bincount(numbers.ravel(order="K"), minlength=len(sizes))
        classes_of[numbers] = values
    return numbered, sizes, classes_of


def _slabs(array: Array, planes: int = 16) -> list[Array]:
    """Views of some planes at a time along the last axis, so that temporary arrays are small."""
    return [array[..., start : start + planes] for start in range(0, array.shape[-1], planes)]
