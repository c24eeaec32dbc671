"""Masks: an earlier segmentation as further input channels, for the second stage of a cascade.

A segmentation is held as one map of mask codes (*S): k + 1 for the label of mask k, and 0 for none. Each label
but the background has a mask. Only patches and windows are expanded to one channel per mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig, prepare_label_map
from medseg.data.scans import Scan
from medseg.geometry import Array

if TYPE_CHECKING:
    from medseg.data.loading.cache.compact_storage import CompactImage


def mask_count(labels: LabelSchema) -> int:
    """Return the number of masks: one for each label but the background."""
    return len(labels.names) - labels.first_evaluated


def mirrored_masks(labels: LabelSchema) -> tuple[int, ...]:
    """Return for each mask the one that it becomes in a mirror image; empty without pairs of labels."""
    first = labels.first_evaluated
    return tuple(index - first for index in labels.mirrored_labels[first:])


def mirrored_inputs(channels: int, labels: LabelSchema) -> tuple[int, ...]:
    """Return for each channel of an image with masks the one that it becomes in a mirror image.

    Args:
        channels: of the image alone.
        labels: of the masks.

    Returns:
        One index for each channel and mask; empty without pairs of labels.
    """
    masks = mirrored_masks(labels)
    return (*range(channels), *(channels + index for index in masks)) if masks else ()


def prepare_masks(label_map: Array, scan: Scan, config: PreprocessConfig, labels: LabelSchema) -> Array:
    """Bring a segmentation to a network's grid (nearest neighbor) as mask codes.

    Args:
        label_map: (*S) label values on the grid of ``scan``.
        scan: the scan.
        config: the preprocessing of the network that receives the masks.
        labels: meaning of the values.

    Returns:
        (*S) uint8, or uint16 for 255 or more labels.
    """
    codes = prepare_label_map(labels.encode(label_map, str(scan.path)), scan, config)
    first = codes.dtype.type(labels.first_evaluated)
    return np.maximum(codes, first) - first


def one_hot_masks(codes: Array, count: int) -> Array:
    """Expand mask codes (*S) to masks (count, *S) float32.

    Example:
        >>> one_hot_masks(np.array([0, 2, 1]), 2).tolist()
        [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    numbers = np.arange(1, count + 1, dtype=codes.dtype).reshape(-1, *(1,) * codes.ndim)
    return (codes[None] == numbers).astype(np.float32)


class ImageWithMasks:
    """An image whose windows have masks as further channels.

    Args:
        image: (C, *S), preprocessed.
        codes: (*S) mask codes.
        count: number of masks.

    Attributes:
        shape: (C + count, *S).
    """

    def __init__(self, image: Array | CompactImage, codes: Array, count: int) -> None:
        self._image, self._codes, self._count = image, codes, count
        self.shape = (image.shape[0] + count, *image.shape[1:])

    def window(self, box: tuple[slice, ...]) -> Array:
        """Return the voxels (C + count, *box)."""
        image = np.asarray(self._image[(slice(None), *box)], dtype=np.float32)
        return np.concatenate([image, one_hot_masks(np.asarray(self._codes[box]), self._count)])
