"""Distance: the depth within each object and its border, decoded by a seeded watershed.

The depth is the distance to the border of the object, divided by the largest one within it. The border are the
voxels of an object that have a neighbor outside of it. Peaks grow down the depth; parts that are divided by a
shallow saddle only, or by no border, are joined again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from medseg.geometry import Array
from medseg.instances.heads.base import DecodedObjects
from medseg.instances.label_maps import (
    component_map,
    keep_largest_parts,
    object_means,
    renumber,
    split_components,
)
from medseg.instances.options import InstanceDecoding

_DEPTH_WEIGHT = 5.0
"""Weight of the depth in the loss: it differs from 0 in objects only, and its errors are small numbers."""
_BORDER_WEIGHT = 2.0
"""Weight of voxels on a border, which are few, in the loss of the border."""
_CONTACT_WEIGHT = 5.0
"""Weight of voxels between two objects, which decide whether the objects are joined."""
_SMOOTHING = 1.0
"""Standard deviation of the smoothing of the depth, in voxels of the finest axis."""


@dataclass(frozen=True)
class DistanceHead:
    """Two maps: the depth, 0 in the background and up to 1 in objects; and the logit of the border."""

    channels: int = 2

    def targets(self, label_map: Array, spacing: Sequence[float]) -> NDArray[np.float32]:
        """Return the maps (2, *S), the border as 0 and 1; see :class:`~medseg.instances.InstanceHead`."""
        parts, count = split_components(label_map)
        border = object_borders(parts)
        return np.stack([object_depth(parts, count, border, spacing), border.astype(np.float32)])

    def loss(self, predicted: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Sum of the smooth L1 loss of the depth and the binary cross-entropy of the border, both weighted."""
        depth = F.smooth_l1_loss(predicted[:, :1], target[:, :1], beta=0.1, reduction="none")
        edge = target[:, 1:]
        border = F.binary_cross_entropy_with_logits(predicted[:, 1:], edge, reduction="none")
        border = border * (1 + (_BORDER_WEIGHT - 1) * edge)
        weight = counted * (1 + (_CONTACT_WEIGHT - 1) * contact_voxels(target))
        return ((_DEPTH_WEIGHT * depth + border) * weight).sum() / counted.sum().clamp(min=1)

    def decode(
        self, foreground: Array, maps: Array, spacing: Sequence[float], options: InstanceDecoding
    ) -> DecodedObjects:
        """Grow the cores of objects; see :class:`~medseg.instances.InstanceHead`."""
        depth = np.clip(np.asarray(maps[0], np.float32), 0, 1)
        border = 1 / (1 + np.exp(-np.clip(np.asarray(maps[1], np.float32), -30, 30)))
        label_map = grow_cores(depth, border, foreground > options.foreground, spacing, options)
        label_map, kept = renumber(keep_largest_parts(label_map))
        means = object_means(foreground, label_map, len(kept))
        highest = np.asarray(ndimage.maximum(depth, label_map, np.arange(1, len(kept) + 1))).reshape(-1)
        return DecodedObjects(label_map, means * highest)

    def enlarge(self, maps: Array, factor: float) -> Array:
        """Return the maps, which have no unit of length."""
        return maps

    def mirror(self, maps: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        """Return the maps: distances are the same in a mirror image."""
        return maps


def contact_voxels(target: torch.Tensor) -> torch.Tensor:
    """Return the voxels between objects that touch or are up to two voxels apart, (B, 1, *S), 0 and 1.

    They are the borders and gaps that are away from the open background.

    Args:
        target: (B, 2, *S), depth and border.
    """
    inside = (target[:, :1] > 0).to(target.dtype)
    closed = 1 - _grow(1 - _grow(inside, 0), 1)
    enclosed = 1 - _grow(1 - closed, 1)
    return enclosed * torch.maximum(target[:, 1:], closed - inside)


def _grow(mask: torch.Tensor, outside: float) -> torch.Tensor:
    """Grow a mask (B, 1, *S) by one voxel; ``outside`` is its value beyond the image."""
    pool = F.max_pool2d if mask.ndim == 4 else F.max_pool3d
    return pool(F.pad(mask, (1, 1) * (mask.ndim - 2), value=outside), 3, 1)


def object_borders(label_map: Array) -> NDArray[np.bool_]:
    """Return the voxels (*S) of objects that share a face with a voxel of another object or the background.

    The outer faces of the image are no borders.
    """
    border = np.zeros(label_map.shape, bool)
    for axis in range(label_map.ndim):
        low, high = _neighbors(label_map.ndim, axis)
        differs = label_map[low] != label_map[high]
        border[low] |= differs
        border[high] |= differs
    return border & (label_map > 0)


def object_depth(label_map: Array, count: int, border: Array, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Return the depth (*S) of the voxels of connected objects 1 … ``count``: 1 for the deepest of each object.

    Args:
        label_map: (*S) integers.
        count: number of objects.
        border: (*S) bool, of :func:`object_borders`.
        spacing: distance between voxels, mm.
    """
    if not count:
        return np.zeros(label_map.shape, np.float32)
    inside = label_map > 0
    if not border.any():  # one object fills the image
        return inside.astype(np.float32)
    distance: Any = ndimage.distance_transform_edt(inside & ~border, sampling=spacing)
    distance += min(spacing) / 2  # from the voxel's center to its face
    flat = torch.from_numpy(label_map.reshape(-1).astype(np.int64))
    largest = torch.zeros(count + 1, dtype=torch.float64)
    largest.scatter_reduce_(0, flat, torch.from_numpy(distance.reshape(-1)), "amax")
    depth = distance / largest.numpy()[label_map]
    return np.where(inside, depth, 0).astype(np.float32)


def grow_cores(
    depth: Array, border: Array, inside: Array, spacing: Sequence[float], options: InstanceDecoding
) -> NDArray[np.int32]:
    """Group voxels by the core that they lie around.

    Every peak of the smoothed depth, lowered at borders, is a core that grows by a watershed. Two neighboring
    parts are joined if the lower core rises little above the saddle between them, or if there is no border.

    Args:
        depth: (*S) predicted depth.
        border: (*S) probability of the border.
        inside: (*S) bool, the voxels of objects.
        spacing: distance between voxels, mm.
        options: thresholds.

    Returns:
        (*S) int32 label map.
    """
    if not inside.any():
        return np.zeros(inside.shape, np.int32)
    sigma = [_SMOOTHING * min(spacing) / mm for mm in spacing]
    relief = ndimage.gaussian_filter(depth - 0.5 * border, sigma)
    relief[~inside] = -1
    peaks = inside & (relief == ndimage.maximum_filter(relief, size=3, mode="nearest"))
    cores, _ = component_map(peaks)
    segmentation: Any = import_module("skimage.segmentation")
    grown = segmentation.watershed(-relief, cores, mask=inside)
    return _join(np.asarray(grown).astype(np.int32), relief, border, options)


def _join(
    label_map: NDArray[np.int32], relief: Array, border: Array, options: InstanceDecoding
) -> NDArray[np.int32]:
    """Join neighboring parts, those with the highest saddle between them first."""
    count = int(label_map.max(initial=0))
    pairs, saddles, borders = _contacts(label_map, relief, border)
    heights = np.asarray(ndimage.maximum(relief, label_map, np.arange(count + 1)))
    group, height = list(range(count + 1)), heights.tolist()

    def root(number: int) -> int:
        while group[number] != number:
            group[number] = group[group[number]]
            number = group[number]
        return number

    for index in np.argsort(-saddles, kind="stable").tolist():
        first, second = (root(number) for number in pairs[index].tolist())
        if first == second:
            continue
        lower = first if height[first] < height[second] else second
        if height[lower] - saddles[index] < options.rise or borders[index] < options.border:
            group[lower] = second if lower == first else first
    return np.array([root(number) for number in range(count + 1)], np.int32)[label_map]


def _contacts(label_map: NDArray[np.int32], relief: Array, border: Array) -> tuple[Array, Array, Array]:
    """Return the neighboring parts: (P, 2) numbers, (P,) highest saddle and (P,) mean border between them."""
    count = int(label_map.max(initial=0))
    keys: list[Array] = []
    saddles: list[Array] = []
    borders: list[Array] = []
    for axis in range(label_map.ndim):
        low, high = _neighbors(label_map.ndim, axis)
        first, second = label_map[low], label_map[high]
        touching = (first != second) & (first > 0) & (second > 0)
        a, b = first[touching].astype(np.int64), second[touching].astype(np.int64)
        keys.append(np.minimum(a, b) * (count + 1) + np.maximum(a, b))
        saddles.append(np.minimum(relief[low], relief[high])[touching])
        borders.append(np.maximum(border[low], border[high])[touching])
    pairs, index = np.unique(np.concatenate(keys), return_inverse=True)
    highest = np.full(len(pairs), -np.inf)
    np.maximum.at(highest, index, np.concatenate(saddles))
    means = np.bincount(index, np.concatenate(borders), len(pairs)) / np.maximum(np.bincount(index), 1)
    return np.stack(np.divmod(pairs, count + 1), axis=1), highest, means


def _neighbors(axes: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the boxes of all voxels with a successor along an axis, and of these successors."""
    low, high = [slice(None)] * axes, [slice(None)] * axes
    low[axis], high[axis] = slice(0, -1), slice(1, None)
    return tuple(low), tuple(high)
