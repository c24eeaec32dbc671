"""Postprocessing of label maps: remove connected components and fill holes."""

from __future__ import annotations

from typing import Annotated

import cc3d
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medseg.config.base import Spec
from medseg.geometry import Array
from medseg.metrics.typed_wrappers import value_boxes

Size = Annotated[float, Field(gt=0)]
Box = tuple[slice, ...]


class PostprocessConfig(Spec):
    """Postprocessing steps for labels or regions, applied in the order below on the grid of the scan.

    Voxels of one label that share a face, an edge or a corner belong to the same component.

    Attributes:
        smallest: minimum component size per label, in mm³ for volumes and pixels for 2D images. Smaller
            components are removed.
        largest: labels of which only the largest component is kept.
        fill: labels whose holes are filled. A hole is background that the label encloses completely.

    Example:
        >>> mask = np.array([[1, 1, 0, 0, 1]], bool)
        >>> PostprocessConfig(largest=("liver",)).of_mask(mask, "liver", 1.0).astype(int)
        array([[1, 1, 0, 0, 0]])
    """

    smallest: dict[str, Size] = Field(default_factory=dict)
    largest: tuple[str, ...] = ()
    fill: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """Names of the labels that have a step."""
        return {*self.smallest, *self.largest, *self.fill}

    def is_equivalent_to(self, other: PostprocessConfig) -> bool:
        """Whether the steps are the same, regardless of the order of the labels."""
        return (self.smallest, set(self.largest), set(self.fill)) == (
            other.smallest, set(other.largest), set(other.fill)
        )  # fmt: skip

    def of_classes(self, classes: Array, names: tuple[str, ...], voxel: float) -> Array:
        """Apply the steps to a map of classes.

        Args:
            classes: (*S) class indices.
            names: names of the classes.
            voxel: volume of a voxel in mm³; 1 for 2D images.

        Returns:
            (*S) class indices; removed voxels become class 0.
        """
        chosen = {i: name for i, name in enumerate(names) if i and name in self.names}  # class 0 is unchanged
        boxes = {i: box for i, box in _boxes(classes).items() if i in chosen}
        if not boxes:
            return classes
        result = classes.copy()
        pruned = [i for i in boxes if chosen[i] in self.smallest or chosen[i] in self.largest]
        if pruned:
            box = enclosing_box([boxes[i] for i in pruned])
            least = {i: self.smallest.get(chosen[i], 0.0) / voxel for i in pruned}
            result[box] = _remove_components(
                classes[box], least, {i for i in pruned if chosen[i] in self.largest}
            )
        filled = [i for i in boxes if chosen[i] in self.fill]
        remaining = _boxes(result) if filled else {}  # smaller where components were removed
        for index, box in ((i, remaining[i]) for i in filled if i in remaining):
            holes = _fill_holes(result[box] == index)
            holes &= (result[box] == 0) & (classes[box] <= index)  # do not fill what later labels lost
            result[box][holes] = index
        return result

    def of_regions(self, regions: Array, names: tuple[str, ...], voxel: float) -> Array:
        """Apply the steps to masks of regions (R, *S) bool; the arguments are those of ``of_classes``."""
        return np.stack([self.of_mask(mask, name, voxel) for mask, name in zip(regions, names, strict=True)])

    def of_mask(self, mask: Array, name: str, voxel: float) -> Array:
        """Apply the steps to the mask (*S) bool of one label; ``voxel`` is the volume of a voxel in mm³."""
        box = _boxes(mask.astype(np.uint8)).get(1) if name in self.names else None
        if box is None:
            return mask
        part = mask[box]
        if name in self.smallest or name in self.largest:
            least = {1: self.smallest.get(name, 0.0) / voxel}
            part = _remove_components(part.astype(np.uint8), least, {1} if name in self.largest else set()) > 0
        if name in self.fill:
            part = _fill_holes(part)
        result = np.zeros_like(mask)
        result[box] = part
        return result


def _boxes(classes: Array) -> dict[int, Box]:
    """Return the bounding box of each class above 0."""
    boxes = value_boxes(classes, int(classes.max(initial=0)))
    return {i: box for i, box in enumerate(boxes, start=1) if box is not None}


def enclosing_box(boxes: list[Box]) -> Box:
    """Return the bounding box of several boxes."""
    return tuple(
        slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True)
    )


def _fill_holes(mask: Array) -> Array:
    """Fill the holes of a mask (*S).

    The outside is the component of the complement that surrounds the mask, with 6 neighbors per voxel (2D: 4).
    The result equals SciPy's ``binary_fill_holes``, in one pass.
    """
    complement = np.pad(~mask, 1, constant_values=True)
    parts = np.asarray(cc3d.connected_components(complement, connectivity=4 if mask.ndim == 2 else 6))
    outside = parts == parts[(0,) * mask.ndim]
    return ~outside[(slice(1, -1),) * mask.ndim]


def _remove_components(classes: Array, least: dict[int, float], largest: set[int]) -> Array:
    """Remove small components from a map of classes (*S), in one pass over all classes.

    Args:
        classes: (*S) class indices.
        least: minimum number of voxels of a component, by class; other classes are unchanged.
        largest: classes of ``least`` of which only the largest component is kept. Of components of equal size,
            the first in Fortran order (first axis fastest) is kept.
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
    """Number the components (*S) of the chosen classes, 0 elsewhere; also return their sizes and classes."""
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
    """Split an array into views of a few planes along the last axis, so that temporary arrays are small."""
    return [array[..., start : start + planes] for start in range(0, array.shape[-1], planes)]
