"""Masks in training samples: an earlier segmentation that a network receives is made less reliable.

A network that always sees good masks copies them. As in the cascades of nnU-Net (Isensee et al. 2021,
doi:10.1038/s41592-020-01008-z), masks are sometimes grown, shrunk, opened or closed, and components are
removed, so that the network learns to correct them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveFloat, model_validator
from scipy import ndimage

from medseg.config.base import Spec
from medseg.data.augmentation.options import RandomConfig
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.masks import mask_count, mirrored_masks, one_hot_masks
from medseg.geometry import Array

_LONGEST = 16
"""A radius is at most the longest side of the patch divided by this number."""
_BITS = 16
"""Bits of a label code in a packed code."""


class MaskMorphologyConfig(RandomConfig):
    """Dilation, erosion, opening or closing of every mask by a box, which is a cube in mm.

    Attributes:
        radius: smallest and largest half of its edge in voxels of the finest axis; at most a sixteenth of the
            longest side of the patch.
    """

    probability: float = Field(default=0.4, ge=0, le=1)
    radius: tuple[PositiveFloat, PositiveFloat] = (1.0, 6.0)

    @model_validator(mode="after")
    def _check_range(self) -> MaskMorphologyConfig:
        if self.radius[0] > self.radius[1]:
            raise ValueError(f"radius: the first number is the smallest, got {list(self.radius)}")
        return self


class MaskRemovalConfig(RandomConfig):
    """Removal of one connected component of every mask.

    Attributes:
        largest: share of the patch above which a component is never removed.
    """

    probability: float = Field(default=0.2, ge=0, le=1)
    largest: Annotated[float, Field(gt=0, le=1)] = 0.15


class MaskAugmentConfig(Spec):
    """Augmentation of masks.

    Attributes:
        morphology: growing and shrinking.
        removal: removal of components.
    """

    morphology: MaskMorphologyConfig = MaskMorphologyConfig()
    removal: MaskRemovalConfig = MaskRemovalConfig()


def corrupt_masks(
    codes: Array, config: MaskAugmentConfig, spacing: Sequence[float], rng: np.random.Generator
) -> Array:
    """Draw and apply the augmentation of masks.

    Args:
        codes: (*P) mask codes, 0 where there is no mask.
        config: what is drawn.
        spacing: distance between voxels, mm.
        rng: source of all random numbers.

    Returns:
        A new map of codes (*P).
    """
    codes = codes.copy()
    shape_change, removal = (rng.random() < one.probability for one in (config.morphology, config.removal))
    present = [int(code) for code in np.unique(codes) if code]
    if shape_change:
        low, high = config.morphology.radius
        high = max(low, min(high, max(codes.shape) / _LONGEST))
        for code in rng.permutation(present):
            operation = _OPERATIONS[int(rng.integers(len(_OPERATIONS)))]
            _change_mask(codes, int(code), operation, _Box(rng.uniform(low, high), spacing))
    if removal:
        for code in present:
            _remove_component(codes, code, config.removal.largest, rng)
    return codes


class _Box:
    """A box as the structuring element of morphology: as filters along each axis, faster than a ball.

    Args:
        radius: half of its edges, in voxels of the finest axis.
        spacing: distance between voxels along each axis.
    """

    def __init__(self, radius: float, spacing: Sequence[float]) -> None:
        self.reach = [round(radius * min(spacing) / mm) for mm in spacing]
        self._size = [2 * n + 1 for n in self.reach]

    def dilate(self, mask: Array) -> Array:
        """Add every voxel that the box reaches from the mask."""
        return ndimage.maximum_filter(mask, size=self._size, mode="constant")

    def erode(self, mask: Array) -> Array:
        """Remove every voxel that the box reaches from the outside; the patch ends nowhere."""
        return ndimage.minimum_filter(mask, size=self._size, mode="nearest")

    def open(self, mask: Array) -> Array:
        """Erode, then dilate: removes what is thin."""
        return self.dilate(self.erode(mask))

    def close(self, mask: Array) -> Array:
        """Dilate, then erode: fills gaps."""
        return self.erode(self.dilate(mask))


_Operation = Callable[[_Box, Array], Array]
_OPERATIONS: tuple[_Operation, ...] = (_Box.dilate, _Box.erode, _Box.open, _Box.close)


def _change_mask(codes: Array, code: int, operation: _Operation, element: _Box) -> None:
    """Change one mask in place; what it grows over is taken from the other masks."""
    found = ndimage.find_objects((codes == code).astype(np.uint8))
    if not found:  # another mask grew over all of it
        return
    box = tuple(
        slice(max(0, part.start - 2 * reach), part.stop + 2 * reach)
        for part, reach in zip(found[0], element.reach, strict=True)
    )
    region = codes[box]
    before = region == code
    after = operation(element, before.astype(np.uint8)) > 0
    region[before] = 0
    region[after] = code


def _remove_component(codes: Array, code: int, largest: float, rng: np.random.Generator) -> None:
    """Remove a random component of one mask in place, among those that are not too large."""
    components, number = ndimage.label(codes == code)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(components.ravel(), minlength=number + 1)[1:]
    small = np.flatnonzero(sizes < largest * codes.size)
    if small.size:
        codes[components == 1 + int(rng.choice(small))] = 0


@dataclass(frozen=True)
class MaskChannels:
    """The masks that samples have as further channels of their image.

    Attributes:
        count: number of masks.
        augment: how they are made less reliable.
        mirrored: for each mask the one that it becomes in a mirror image; empty if none changes.
    """

    count: int
    augment: MaskAugmentConfig
    mirrored: tuple[int, ...] = ()

    @classmethod
    def of(cls, labels: LabelSchema, augment: MaskAugmentConfig) -> MaskChannels:
        """Return the masks for the labels of a dataset."""
        return cls(mask_count(labels), augment, mirrored_masks(labels))

    def add_to(
        self, image: torch.Tensor, codes: Array, spacing: Sequence[float], rng: np.random.Generator
    ) -> torch.Tensor:
        """Augment mask codes (*P), and append them to an image (C, *P) as channels."""
        codes = corrupt_masks(codes, self.augment, spacing, rng)
        return torch.cat([image, torch.from_numpy(one_hot_masks(codes, self.count))])

    def mirror(self, codes: Array) -> Array:
        """Exchange left and right in mask codes."""
        if not self.mirrored:
            return codes
        return np.array([0, *(index + 1 for index in self.mirrored)], dtype=codes.dtype)[codes]


def pack_codes(labels: Array, masks: Array) -> Array:
    """Combine label and mask codes of each voxel in one number, to move both by one interpolation.

    Example:
        >>> unpack_codes(pack_codes(np.array([3]), np.array([2])))
        (array([3], dtype=int32), array([2], dtype=int32))
    """
    return labels.astype(np.int32) | (masks.astype(np.int32) << _BITS)


def unpack_codes(packed: Array) -> tuple[Array, Array]:
    """Return the label and the mask codes."""
    return packed & ((1 << _BITS) - 1), packed >> _BITS
