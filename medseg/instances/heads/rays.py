"""Rays: distances to the border of a star-convex object, as in StarDist.

Each voxel of an object predicts how far the border is along fixed directions, and how deep it lies in the
object. The deepest voxels draw their object, the most likely first; objects that lie within others are dropped.

Schmidt et al. 2018, arXiv:1806.03535; in 3D Weigert et al. 2020, arXiv:1908.03636.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.geometry import Array
from medseg.instances.heads.base import DecodedObjects
from medseg.instances.heads.distance import object_borders, object_depth
from medseg.instances.label_maps import object_means, renumber, split_components
from medseg.instances.options import InstanceDecoding

_RAY_WEIGHT = 0.2
"""Weight of the rays in the loss, as in StarDist."""
_GROWTH = 3.0
"""Distance, in voxels of the finest axis, up to which an object grows into the foreground next to it."""
_LARGEST_STAR = 2**23
"""Voxels of the box around the longest ray, above which rays are cut."""
_NEAREST = {2: 2, 3: 4}
"""Rays from which the distance to the border in any direction is interpolated, by the number of axes."""


@dataclass(frozen=True, eq=False)
class RayHead:
    """The logit of the depth (see :mod:`medseg.instances.heads.distance`), and the length of each ray in mm.

    Attributes:
        directions: (R, n) unit vectors in space; their mirror images are among them.
    """

    directions: NDArray[np.float64]

    @classmethod
    def of(cls, spatial_dims: int, rays: int | None = None) -> RayHead:
        """Return a head with a number of rays, by default 32 in 2D and 96 in 3D.

        Raises:
            ConfigError: the number is not a multiple of 4 in 2D, or of 8 in 3D.
        """
        return cls(ray_directions(spatial_dims, rays or (32 if spatial_dims == 2 else 96)))

    @property
    def channels(self) -> int:
        """The number of rays, plus 1."""
        return 1 + len(self.directions)

    def targets(self, label_map: Array, spacing: Sequence[float]) -> NDArray[np.float32]:
        """Return the depth and the rays (1 + R, *S); see :class:`~medseg.instances.InstanceHead`."""
        parts, count = split_components(label_map)
        depth = object_depth(parts, count, object_borders(parts), spacing)
        return np.concatenate([depth[None], measure_rays(parts, self.directions, spacing)])

    def loss(self, predicted: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy of the depth, plus the mean absolute error of the rays weighted by the depth."""
        depth = target[:, :1]
        entropy = F.binary_cross_entropy_with_logits(predicted[:, :1], depth, reduction="none")
        error = (predicted[:, 1:] - target[:, 1:]).abs().mean(dim=1, keepdim=True)
        total = ((entropy + _RAY_WEIGHT * error * depth) * counted).sum()
        return total / counted.sum().clamp(min=1)

    def decode(
        self, foreground: Array, maps: Array, spacing: Sequence[float], options: InstanceDecoding
    ) -> DecodedObjects:
        """Draw the most likely objects; see :class:`~medseg.instances.InstanceHead`."""
        depth = 1 / (1 + np.exp(-np.clip(np.asarray(maps[0], np.float32), -30, 30)))
        centers = _peaks(depth, options.seed)
        label_map = draw_objects(centers, np.asarray(maps[1:]), self.directions, spacing, options.overlap)
        label_map, kept = renumber(fit_to_foreground(label_map, foreground > options.foreground, spacing))
        likeliest = depth[tuple(centers.T)][kept - 1] if len(kept) else np.zeros(0)
        return DecodedObjects(label_map, likeliest * object_means(foreground, label_map, len(kept)))

    def enlarge(self, maps: Array, factor: float) -> Array:
        """Multiply the rays."""
        return np.concatenate([maps[:1], factor * maps[1:]])

    def mirror(self, maps: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        """Exchange the rays of mirrored directions."""
        mirrored = self.directions.copy()
        mirrored[:, list(axes)] *= -1
        order = (mirrored @ self.directions.T).argmax(axis=1)
        return maps[:, [0, *(1 + index for index in order.tolist())]]


def ray_directions(spatial_dims: int, count: int) -> NDArray[np.float64]:
    """Return unit vectors (R, n) spread over the circle or the sphere, whose mirror images are among them.

    Raises:
        ConfigError: the number is not a multiple of 4 in 2D, or of 8 in 3D.

    Example:
        >>> ray_directions(2, 4).round(3).tolist()
        [[0.707, 0.707], [-0.707, 0.707], [-0.707, -0.707], [0.707, -0.707]]
    """
    if count % 2**spatial_dims:
        raise ConfigError(f"task.rays: expected a multiple of {2**spatial_dims}, got {count}")
    if spatial_dims == 2:
        angles = (np.arange(count) + 0.5) * 2 * np.pi / count
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    steps = np.arange(count // 8)  # a spiral of golden angles (Fibonacci) on an eighth of the sphere
    height = (steps + 0.5) / len(steps)
    turn = np.modf(steps * (math.sqrt(5) - 1) / 2 + 0.5 / len(steps))[0] * np.pi / 2
    radius = np.sqrt(1 - height**2)
    eighth = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
    signs = np.stack(np.meshgrid([1, -1], [1, -1], [1, -1], indexing="ij"), axis=-1).reshape(-1, 1, 3)
    return (signs * eighth).reshape(-1, 3)


def measure_rays(label_map: Array, directions: Array, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Measure how far each voxel is from the border of its object along directions.

    Along each direction the map is sheared, so that the ray is a line of the array; the length of runs on all
    lines follows at once, whatever their length.

    Args:
        label_map: (*S) integers.
        directions: (R, n) unit vectors in space.
        spacing: distance between voxels, mm.

    Returns:
        (R, *S) float32, mm; 0 in the background. The faces of the image are borders.
    """
    inside = label_map > 0
    padded = np.pad(label_map.astype(np.int32), [(0, 1)] * label_map.ndim)  # separates opposite faces
    lengths = np.empty((len(directions), *label_map.shape), np.float32)
    crop = tuple(slice(0, n) for n in label_map.shape)
    for index, direction in enumerate(directions):
        length = lengths[index]
        step = direction / np.asarray(spacing)
        main = int(np.abs(step).argmax())
        runs = _runs(padded, step / abs(step[main]), main)[crop]
        np.multiply(runs + np.float32(0.5), np.float32(1 / abs(step[main])), out=length)
        length *= inside
    return lengths


def _runs(label_map: NDArray[np.int32], slope: Array, main: int) -> NDArray[np.int32]:
    """Return how many steps of ``slope`` lead from each voxel (*S) to voxels of the same value."""
    shape = label_map.shape
    positions = np.arange(shape[main]) if slope[main] > 0 else np.arange(shape[main])[::-1]
    index: list[Array] = []
    for axis, size in enumerate(shape):
        along = np.zeros(shape[main], np.int64) if axis != main else positions.astype(np.int64)
        if axis != main:
            along = np.round(slope[axis] * np.arange(shape[main])).astype(np.int64)
        along = along.reshape(-1, *(1,) * (len(shape) - 1))
        others = [other for other in range(len(shape)) if other != main]
        if axis == main:
            index.append(along)
            continue
        own = [1] * len(shape)
        own[1 + others.index(axis)] = size
        index.append((np.arange(size).reshape(own) + along) % size)
    flat = sum(part * int(np.prod(shape[axis + 1 :])) for axis, part in enumerate(index))
    lines = label_map.reshape(-1)[flat]
    rows = np.arange(len(lines), dtype=np.int32).reshape(-1, *(1,) * (len(shape) - 1))
    ends = np.full(lines.shape, len(lines) - 1, np.int32)
    ends[:-1] = np.where(lines[:-1] != lines[1:], rows[:-1], len(lines) - 1)
    np.minimum.accumulate(ends[::-1], axis=0, out=ends[::-1])
    runs = np.empty(label_map.size, np.int32)
    runs[flat] = ends - rows
    return runs.reshape(shape)


def _peaks(depth: Array, above: float) -> NDArray[np.int64]:
    """Return the centers (N, n) of objects: local maxima of the depth above a threshold, the highest first."""
    highest = ndimage.maximum_filter(depth, size=3, mode="nearest")
    peaks = np.argwhere((depth == highest) & (depth > above))
    return peaks[np.argsort(-depth[tuple(peaks.T)], kind="stable")]


def draw_objects(
    centers: NDArray[np.int64], rays: Array, directions: Array, spacing: Sequence[float], overlap: float
) -> NDArray[np.int32]:
    """Draw star-convex objects into a label map, the first first.

    An object is dropped if its center lies in an object that was drawn before, or too large a share of it.

    Args:
        centers: (N, n) voxels.
        rays: (R, *S) lengths of the rays of each voxel, mm.
        directions: (R, n).
        spacing: distance between voxels, mm.
        overlap: share of an object within others above which it is dropped.

    Returns:
        (*S) int32: object i + 1 has center i.
    """
    shape = rays.shape[1:]
    label_map = np.zeros(shape, np.int32)
    if not len(centers):
        return label_map
    lengths = np.clip(rays[(slice(None), *centers.T)].T, 0, None)
    star = _Star.of(directions, spacing, shape, float(lengths.max()))
    for number, (center, length) in enumerate(zip(centers, lengths, strict=True), start=1):
        if label_map[tuple(center)]:
            continue
        voxels = center + star.offsets_inside(length)
        voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
        index = tuple(voxels.T)
        free = label_map[index] == 0
        if free.mean() >= 1 - overlap:
            label_map[tuple(part[free] for part in index)] = number
    return label_map


def fit_to_foreground(label_map: Array, inside: Array, spacing: Sequence[float]) -> Array:
    """Cut objects off where there is no foreground, and grow them into foreground next to them.

    The classes of the voxels follow an outline more closely than rays.

    Args:
        label_map: (*S) of objects.
        inside: (*S) bool, the foreground.
        spacing: distance between voxels, mm.
    """
    cut = np.where(inside, label_map, 0)
    if not cut.any():
        return cut
    distance, nearest = ndimage.distance_transform_edt(cut == 0, sampling=spacing, return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]
    near = inside & (np.asarray(distance) <= _GROWTH * min(spacing))
    return np.where(near, cut[tuple(nearest)], 0)


@dataclass(frozen=True, eq=False)
class _Star:
    """The voxels around a center, the nearest first, and the rays next to each.

    Attributes:
        offsets: (M, n) voxels.
        distances: (M,) mm, ascending.
        rays: (M, k) the rays next to the direction of each offset.
        weights: (M, k) their weights, with sum 1.
    """

    offsets: NDArray[np.int32]
    distances: NDArray[np.float32]
    rays: NDArray[np.int16]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, directions: Array, spacing: Sequence[float], shape: Sequence[int], longest: float) -> _Star:
        """Return the voxels up to a distance, at most the size of the image.

        Memory is bounded: distances are at most about 1,400 pixels, or 100 voxels in 3D.
        """
        longest = min(longest, math.dist([0.0] * len(shape), np.multiply(shape, spacing)))
        while True:
            reach = [min(n, math.ceil(longest / mm)) for n, mm in zip(shape, spacing, strict=True)]
            if math.prod(2 * n + 1 for n in reach) <= _LARGEST_STAR:
                break
            longest *= 0.95
        squared = np.zeros([2 * n + 1 for n in reach], np.float32)
        for axis, (n, mm) in enumerate(zip(reach, spacing, strict=True)):
            along = (np.arange(-n, n + 1) * mm) ** 2
            squared += along.astype(np.float32).reshape(
                [-1 if other == axis else 1 for other in range(len(reach))]
            )
        inside = squared <= (longest + min(spacing)) ** 2
        distances = np.sqrt(squared[inside])
        offsets = (np.argwhere(inside) - np.array(reach)).astype(np.int32)
        order = np.argsort(distances, kind="stable")
        offsets, distances = offsets[order], distances[order]
        count = _NEAREST[len(shape)]
        rays = np.empty((len(offsets), count), np.int16)
        angles = np.empty((len(offsets), count), np.float32)
        for first in range(0, len(offsets), 2**14):
            part = slice(first, first + 2**14)
            unit = offsets[part] * np.asarray(spacing) / np.maximum(distances[part], 1e-9)[:, None]
            cosines = unit @ directions.T
            nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            rays[first : first + 2**14] = nearest
            angles[first : first + 2**14] = np.arccos(np.clip(np.take_along_axis(cosines, nearest, 1), -1, 1))
        weights = 1 / np.maximum(angles, 1e-6)
        return cls(offsets, distances, rays, weights / weights.sum(axis=1, keepdims=True))

    def offsets_inside(self, lengths: Array) -> NDArray[np.int32]:
        """Return the offsets (M', n) inside an object with rays of these lengths (R,)."""
        count = int(np.searchsorted(self.distances, float(lengths.max()), side="right"))
        count = max(count, 1)
        limits = (lengths[self.rays[:count]] * self.weights[:count]).sum(axis=1)
        inside = self.distances[:count] <= limits
        inside[0] = True  # the center
        return self.offsets[:count][inside]
