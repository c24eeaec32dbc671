"""``Instances``: the objects of one image, with class, score, place and size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.geometry import Array


@dataclass(frozen=True, eq=False)
class Instances:
    """The objects of one image.

    Each object has a box and its mask within the box, so that objects may overlap and large images with many
    objects stay small.

    Attributes:
        shape: of the image, *S.
        spacing: distance between voxels along each axis, mm; 1 for pictures, whose sizes are in pixels.
        boxes: (N, n, 2) int64, first voxel and the voxel after the last one along each axis.
        masks: N masks (*box) bool.
        classes: (N,) int64, index of the class in the names of the labels (0 is the background).
        scores: (N,) float64, 0 to 1.

    Example:
        >>> found = Instances.from_label_map(np.array([[1, 1, 0], [0, 0, 2]]), spacing=(0.5, 0.5))
        >>> len(found), found.sizes.tolist(), found.boxes[1].tolist()
        (2, [0.5, 0.25], [[1, 2], [2, 3]])
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    boxes: NDArray[np.int64]
    masks: tuple[NDArray[np.bool_], ...] = field(repr=False)
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]

    @classmethod
    def from_label_map(
        cls,
        label_map: Array,
        classes: Array | None = None,
        scores: Array | None = None,
        *,
        spacing: Sequence[float] | None = None,
    ) -> Instances:
        """Return the objects of a label map.

        Args:
            label_map: (*S) integers, 0 for background, object i + 1 is the i-th.
            classes: (N,) class indices; 1 for all if None.
            scores: (N,) scores; 1 for all if None.
            spacing: distance between voxels, mm; 1 if None.

        Raises:
            ValueError: ``classes`` or ``scores`` have another length than the largest number.
        """
        count = int(label_map.max(initial=0))
        for name, values in (("classes", classes), ("scores", scores)):
            if values is not None and len(values) != count:
                raise ValueError(f"{len(values)} {name} for a label map of {count} objects")
        found = ndimage.find_objects(label_map.astype(np.int32, copy=False), count) if count else []
        present = [index for index, box in enumerate(found) if box is not None]
        boxes = [[(part.start, part.stop) for part in found[index]] for index in present]
        masks = tuple(label_map[found[index]] == index + 1 for index in present)
        return cls(
            tuple(label_map.shape),
            _spacing(spacing, label_map.ndim),
            np.array(boxes, np.int64).reshape(-1, label_map.ndim, 2),
            masks,
            np.ones(len(present), np.int64) if classes is None else np.asarray(classes, np.int64)[present],
            np.ones(len(present)) if scores is None else np.asarray(scores, np.float64)[present],
        )

    @classmethod
    def from_masks(
        cls,
        masks: Array,
        classes: Array,
        scores: Array,
        *,
        spacing: Sequence[float] | None = None,
    ) -> Instances:
        """Return the objects of masks (N, *S), which may overlap; empty masks are left out."""
        axes = masks.ndim - 1
        kept, boxes, cropped = [], [], []
        for index, mask in enumerate(masks != 0):
            found = ndimage.find_objects(mask.astype(np.uint8))
            if found:
                kept.append(index)
                boxes.append([(part.start, part.stop) for part in found[0]])
                cropped.append(mask[found[0]].copy())
        return cls(
            tuple(masks.shape[1:]),
            _spacing(spacing, axes),
            np.array(boxes, np.int64).reshape(-1, axes, 2),
            tuple(cropped),
            np.asarray(classes, np.int64)[kept],
            np.asarray(scores, np.float64)[kept],
        )

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.boxes)

    def __iter__(self) -> Iterator[tuple[tuple[slice, ...], NDArray[np.bool_]]]:
        """Yield the box and the mask (*box) of each object."""
        for box, mask in zip(self.boxes.tolist(), self.masks, strict=True):
            yield tuple(slice(first, last) for first, last in box), mask

    @property
    def is_overlapping(self) -> bool:
        """Whether two objects share a voxel."""
        return int(np.count_nonzero(self.label_map())) < int(self.voxels.sum())

    def label_map(self) -> Array:
        """Return the objects as a map (*S): i + 1 for object i, in uint16, or uint32 for more than 65,535.

        Where objects overlap, the one with the highest score is shown.
        """
        label_map = np.zeros(self.shape, np.uint16 if len(self) < 2**16 else np.uint32)
        regions = list(self)
        for index in np.argsort(self.scores, kind="stable"):
            box, mask = regions[index]
            label_map[box][mask] = index + 1
        return label_map

    def select(self, kept: Array) -> Instances:
        """Return some of the objects: a mask (N,) bool, or their indices, whose order is kept."""
        indices = np.arange(len(self))[kept]
        return Instances(
            self.shape,
            self.spacing,
            self.boxes[indices],
            tuple(self.masks[index] for index in indices),
            self.classes[indices],
            self.scores[indices],
        )

    @property
    def voxels(self) -> NDArray[np.int64]:
        """(N,) number of voxels of each object."""
        return np.array([np.count_nonzero(mask) for mask in self.masks], np.int64)

    @property
    def sizes(self) -> NDArray[np.float64]:
        """(N,) area or volume of each object, in mm² or mm³ (pixels for pictures)."""
        return np.asarray(self.voxels * float(np.prod(self.spacing)), np.float64)

    @property
    def centers(self) -> NDArray[np.float64]:
        """(N, n) mean position of the voxels of each object, in voxels."""
        centers = np.empty((len(self), len(self.shape)))
        for center, box, mask in zip(centers, self.boxes, self.masks, strict=True):
            total = np.count_nonzero(mask)
            for axis, (first, last) in enumerate(box):
                others = tuple(other for other in range(mask.ndim) if other != axis)
                center[axis] = np.count_nonzero(mask, axis=others) @ np.arange(first, last) / total
        return centers

    def mean_intensities(self, image: Array) -> NDArray[np.float64]:
        """Return the mean of each channel of an image (C, *S) over each object, (N, C)."""
        means = [image[(slice(None), *box)][:, mask].mean(axis=1) for box, mask in self]
        return np.array(means, np.float64).reshape(-1, len(image))


def _spacing(spacing: Sequence[float] | None, axes: int) -> tuple[float, ...]:
    return (1.0,) * axes if spacing is None else tuple(float(mm) for mm in spacing)
