"""What is done to a decision before it is written: components that cannot be, and holes."""

from __future__ import annotations

from typing import Annotated

import cc3d
import numpy as np
from pydantic import Field
from scipy.ndimage import binary_fill_holes

from medseg.geometry import Array
from medseg.spec import Spec

Size = Annotated[float, Field(gt=0)]


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

    def of_classes(self, classes: Array, names: tuple[str, ...], voxel: float) -> Array:
        """A map of classes (*S) after the steps; what is taken away becomes class 0.

        ``names`` are those of the classes, ``voxel`` is a voxel's size (mm³, or 1 in pictures).
        """
        result = classes
        for index, name in enumerate(names):
            if name not in self.names:
                continue
            mask = result == index
            changed = self.of_mask(mask, name, voxel)
            result = np.where(mask & ~changed, 0, result)
            result = np.where(changed & (result == 0), index, result).astype(classes.dtype)
        return result

    def of_regions(self, regions: Array, names: tuple[str, ...], voxel: float) -> Array:
        """Masks (R, *S) of regions after the steps."""
        return np.stack([self.of_mask(mask, name, voxel) for mask, name in zip(regions, names, strict=True)])

    def of_mask(self, mask: Array, name: str, voxel: float) -> Array:
        """One label's mask (*S) after the steps."""
        if name in self.smallest:
            mask = _at_least(mask, self.smallest[name] / voxel)
        if name in self.largest:
            mask = _largest(mask)
        if name in self.fill:
            mask = np.asarray(binary_fill_holes(mask))
        return mask


def _components(mask: Array) -> tuple[Array, Array]:
    """Numbered components (*S), 0 outside, and their sizes in voxels, that of the outside 0."""
    numbered = cc3d.connected_components(
        np.asfortranarray(mask).astype(np.uint8), connectivity=8 if mask.ndim == 2 else 26
    )
    sizes = np.bincount(np.asarray(numbered).ravel())
    sizes[0] = 0
    return np.asarray(numbered), sizes


def _largest(mask: Array) -> Array:
    numbered, sizes = _components(mask)
    return numbered == sizes.argmax() if sizes.any() else mask


def _at_least(mask: Array, voxels: float) -> Array:
    numbered, sizes = _components(mask)
    return (sizes >= voxels)[numbered] & mask
