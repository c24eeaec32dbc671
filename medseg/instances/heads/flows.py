"""Flows: directions to the center of each object (Stringer et al. 2021, doi:10.1038/s41592-020-01018-x).

Heat diffuses from the center of each object; its gradient, at unit length, is the flow. Voxels that flow to the
same place are one object. Here the heat diffuses in mm, in two or three dimensions: with cubic voxels in 2D the
scheme is that of Cellpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from medseg.geometry import Array
from medseg.instances.heads.base import DecodedObjects
from medseg.instances.heads.object_batches import ObjectBatch, object_batches
from medseg.instances.label_maps import (
    component_map,
    keep_largest_parts,
    object_means,
    renumber,
    split_components,
)
from medseg.instances.options import InstanceDecoding

SCALE = 5.0
"""A network predicts the flow times this factor, as in Cellpose."""

_STEPS, _DOUBLINGS = 4, 6
"""Interpolated steps of one voxel, and how often the result is followed again: 4 · 2⁶ = 256 steps."""
_PEAK, _GROWTH_ABOVE, _GROWTH = 10, 2, 5
"""Voxels that end at the center of an object (at least); where it grows; and how often, as in Cellpose."""
_MOST_UPDATES = 2**29
"""Voxels times steps of the diffusion of one object, above which it is computed on blocks of voxels."""


@dataclass(frozen=True)
class FlowHead:
    """One map for each axis: the flow times :data:`SCALE`; 0 in the background.

    Attributes:
        channels: number of spatial axes.
    """

    channels: int

    def targets(self, label_map: Array, spacing: Sequence[float]) -> NDArray[np.float32]:
        """Return the maps (n, *S); see :class:`~medseg.instances.InstanceHead`."""
        return SCALE * object_flows(split_components(label_map)[0], spacing)

    def loss(self, predicted: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Half the mean squared difference, as in Cellpose."""
        total = ((predicted - target).square() * counted).sum()
        return 0.5 * total / (counted.sum() * self.channels).clamp(min=1)

    def decode(
        self, foreground: Array, maps: Array, spacing: Sequence[float], options: InstanceDecoding
    ) -> DecodedObjects:
        """Follow the flows; see :class:`~medseg.instances.InstanceHead`."""
        inside = foreground > options.foreground
        flows = np.asarray(maps, np.float32) / SCALE
        label_map = keep_largest_parts(gather_objects(flows, inside, spacing))
        label_map, _ = renumber(label_map)
        errors = flow_errors(flows, label_map, spacing)
        label_map, kept = renumber(label_map, np.concatenate([[False], errors <= options.flow_error]))
        means = object_means(foreground, label_map, len(kept))
        return DecodedObjects(label_map, means * np.exp(-2 * errors[kept - 1]))

    def enlarge(self, maps: Array, factor: float) -> Array:
        """Return the maps, which have no unit of length."""
        return maps

    def mirror(self, maps: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        """Negate the flow along mirrored axes."""
        signs = torch.ones(self.channels, device=maps.device, dtype=maps.dtype)
        signs[list(axes)] = -1
        return maps * signs.view(-1, *(1,) * self.channels)


def object_flows(label_map: Array, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Compute the flows (n, *S) of connected objects 1 … N: unit vectors in space, 0 in the background.

    The number of steps grows with the size of an object. Flows of objects above 512² pixels are computed on
    blocks of voxels, so that noise, which may be decoded as one large object, does not take minutes.

    Args:
        label_map: (*S) integers.
        spacing: distance between voxels, mm.
    """
    flows = np.zeros((label_map.ndim, *label_map.shape), np.float32)
    for batch in object_batches(label_map):
        step = _block_side(batch, spacing)
        flows_of_batch = _flows(batch, spacing) if step == 1 else _coarse_flows(batch, spacing, step)
        for axis, values in enumerate(flows_of_batch):
            batch.scatter(values, flows[axis])
    return flows


def _block_side(batch: ObjectBatch, spacing: Sequence[float]) -> int:
    """Return the side of the blocks on which flows are computed; 1 for objects that are not large."""
    box = batch.masks.shape[1:]
    updates = _steps(batch, spacing) * math.prod(box)
    return max(1, math.ceil((updates / _MOST_UPDATES) ** (1 / (1 + len(box)))))


def _coarse_flows(batch: ObjectBatch, spacing: Sequence[float], step: int) -> NDArray[np.float32]:
    """Return the flows (n, N, *box) of a batch of objects, the same within blocks of ``step`` voxels a side."""
    sides = batch.masks.shape[1:]
    padded = np.pad(batch.masks, [(0, 0), *((step, 2 * step - side % step) for side in sides)])
    blocks = [part for side in padded.shape[1:] for part in (side // step, step)]
    masks = padded.reshape(len(padded), *blocks).any(axis=tuple(range(2, 2 * len(sides) + 1, 2)))
    coarse = replace(batch, masks=masks, extents=-(-batch.extents // step))
    flows = _flows(coarse, [mm * step for mm in spacing])
    for axis in range(len(sides)):
        flows = flows.repeat(step, axis=2 + axis)
    return flows[(slice(None), slice(None), *(slice(step, step + side) for side in sides))]


def _steps(batch: ObjectBatch, spacing: Sequence[float]) -> int:
    """Return the number of steps of diffusion: twice the sum of the sides of the largest object."""
    reach = (batch.extents * (np.asarray(spacing) / min(spacing))).sum(axis=1)
    return math.ceil(2 * float(reach.max()))


def _flows(batch: ObjectBatch, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Return the flows (n, N, *box) of a batch of objects."""
    heat = np.log1p(_diffuse(batch, spacing))
    gradients = np.zeros((len(spacing), *heat.shape), np.float32)
    inner = (slice(1, -1),) * len(spacing)
    for axis, mm in enumerate(spacing):
        gradient = gradients[axis]
        before, after = list(inner), list(inner)
        before[axis], after[axis] = slice(0, -2), slice(2, None)
        np.subtract(
            heat[(slice(None), *after)], heat[(slice(None), *before)], out=gradient[(slice(None), *inner)]
        )
        gradient /= mm
    largest = np.abs(gradients).max(axis=0)
    gradients /= np.where(
        largest > 0, largest, 1
    )  # far from the center, squares would be too small for float32
    gradients /= np.sqrt(np.maximum((gradients**2).sum(axis=0), 1))
    return gradients


def _diffuse(batch: ObjectBatch, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Return the heat (N, *box) of each object after as many steps as twice the sum of its sides.

    Each step adds 1 at the center and takes the mean of the neighbors, by a kernel (w, 1 - 2w, w) along each
    axis, whose variance 2w is the same in mm along all of them: w = 1/3 along the axis of the finest voxels.
    """
    mask = batch.masks.astype(np.float32)
    heat, spread = np.zeros_like(mask), np.zeros_like(mask)
    fine = min(spacing)
    centers = (np.arange(len(mask)), *_centers(batch, spacing))
    for _ in range(_steps(batch, spacing)):
        heat[centers] += 1
        for axis, mm in enumerate(spacing, start=1):
            weight = np.float32((fine / mm) ** 2 / 3)
            middle = (slice(None),) * axis
            low, high = (*middle, slice(0, -2)), (*middle, slice(2, None))
            within = (*middle, slice(1, -1))
            np.add(heat[low], heat[high], out=spread[within])
            spread[within] *= weight
            heat *= 1 - 2 * weight
            heat[within] += spread[within]
        heat *= mask
    return heat


def _centers(batch: ObjectBatch, spacing: Sequence[float]) -> tuple[NDArray[np.int64], ...]:
    """Return the voxel of each object that is nearest to its centroid, one array of indices for each axis."""
    masks, axes = batch.masks, range(1, batch.masks.ndim)
    sizes = masks.sum(axis=tuple(axes))
    distance = np.zeros(masks.shape, np.float32)
    for axis, mm in zip(axes, spacing, strict=True):
        others = tuple(other for other in axes if other != axis)
        positions = np.arange(masks.shape[axis])
        mean = masks.sum(axis=others) @ positions / sizes
        shape = [1] * masks.ndim
        shape[0], shape[axis] = len(masks), -1
        distance += (((positions - mean[:, None]) * mm) ** 2).astype(np.float32).reshape(shape)
    distance[~masks] = np.inf
    nearest = distance.reshape(len(masks), -1).argmin(axis=1)
    return tuple(np.asarray(index) for index in np.unravel_index(nearest, masks.shape[1:]))


def gather_objects(flows: Array, inside: Array, spacing: Sequence[float]) -> NDArray[np.int32]:
    """Group voxels by the place that they flow to.

    Args:
        flows: (n, *S) float32, in mm.
        inside: (*S) bool, the voxels of objects.
        spacing: distance between voxels, mm.

    Returns:
        (*S) int32 label map.
    """
    if not inside.any():
        return np.zeros(inside.shape, np.int32)
    ends = _follow(flows, inside, spacing)
    counts = np.bincount(ends[inside], minlength=inside.size).reshape(inside.shape)
    seeds = _seeds(counts, spacing)
    return np.where(inside, seeds.reshape(-1)[ends], 0).astype(np.int32)


def _follow(flows: Array, inside: Array, spacing: Sequence[float]) -> NDArray[np.int64]:
    """Return for each voxel (*S) the flat index of the voxel that it flows to."""
    shape, fine = inside.shape, min(spacing)
    ratio = np.array([fine / mm for mm in spacing], np.float32)
    steps = np.where(inside, flows, 0) * ratio.reshape(-1, *(1,) * inside.ndim)
    steps /= np.maximum(np.sqrt((np.where(inside, flows, 0) ** 2).sum(axis=0)), 1)
    field = torch.from_numpy(np.ascontiguousarray(steps[::-1]))[None]  # the last axis comes first in grids
    start = torch.from_numpy(np.argwhere(inside).astype(np.float32)[:, ::-1].copy())
    last = torch.tensor([max(n - 1, 1) for n in reversed(shape)], dtype=torch.float32)
    limit = torch.tensor([n - 1 for n in reversed(shape)], dtype=torch.float32)
    position = start.clone()
    for _ in range(_STEPS):
        grid = (position / last * 2 - 1).view(1, *(1,) * (len(shape) - 1), -1, len(shape))
        moved = F.grid_sample(field, grid, mode="bilinear", padding_mode="border", align_corners=True)
        position += moved.reshape(len(shape), -1).T
        position = torch.minimum(position.clamp_(min=0), limit)
    nearest = position.round_().long().numpy()[:, ::-1]
    ends = np.arange(inside.size)
    ends[inside.ravel()] = np.ravel_multi_index(tuple(nearest.T), shape)
    for _ in range(_DOUBLINGS):
        ends = ends[ends]
    return ends.reshape(shape)


def _seeds(counts: Array, spacing: Sequence[float]) -> NDArray[np.int32]:
    """Return the places where flows end as a label map (*S): peaks of the counts, grown a little."""
    fine = min(spacing)
    reach = [max(1, round(2 * fine / mm)) for mm in spacing]
    highest = ndimage.maximum_filter(counts, size=[2 * n + 1 for n in reach], mode="constant")
    seeds, _ = component_map((counts == highest) & (counts >= _PEAK))
    free = counts > _GROWTH_ABOVE
    for _ in range(_GROWTH):
        grown = ndimage.maximum_filter(seeds, size=3, mode="constant")
        seeds = np.where((seeds == 0) & free, grown, seeds)
    return seeds


def flow_errors(flows: Array, label_map: Array, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Return the mean squared difference between flows (n, *S) and those of each object 1 … N."""
    count = int(label_map.max(initial=0))
    if not count:
        return np.zeros(0)
    difference = ((flows - object_flows(label_map, spacing)) ** 2).sum(axis=0)
    return object_means(difference, label_map, count)
