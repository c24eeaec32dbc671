"""Windows over a scan: their place, their zoom, and the voxels that they read and write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from medseg.data.loading.sampling.cropping import Voxels
from medseg.geometry import Array
from medseg.prompts.frame import Frame
from medseg.prompts.users.regions import bounding_box

MOST_ZOOM = 4.0
"""Largest zoom: what is larger takes several prompts, so that time and memory of each stay bounded."""

_PART_VOXELS = 1 << 18
"""Voxels of a region whose logits are interpolated at a time: what the caches of a core hold."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ScanWindows:
    """A scan of which a network reads windows. Nothing depends on the size of the scan but its arrays.

    Attributes:
        image: (C, *S), not normalized, with the axes of the network.
        normalize: maps voxels (C, *W) to the float32 input of the network.
        axes: for each axis of ``image``, the axis of the scan.
        flipped: for each axis of ``image``, whether it runs backwards in the scan.
        scale: voxels of the network's grid per voxel of the scan, along each axis of ``image``.
        shape: (*W) voxels of a window.
    """

    image: Voxels
    normalize: Callable[[Array], Array]
    axes: tuple[int, ...]
    flipped: tuple[bool, ...]
    scale: tuple[float, ...]
    shape: tuple[int, ...]

    @property
    def length(self) -> tuple[int, ...]:
        """(*S) voxels of ``image`` along each axis."""
        return tuple(self.image.shape[1:])

    def oriented(self, array: Array) -> Array:
        """Return a view of an array (*S) of the scan with the axes of ``image``."""
        turned = array.transpose(self.axes)
        return turned[tuple(slice(None, None, -1) if back else slice(None) for back in self.flipped)]

    def size(self, zoom: float) -> Floats:
        """Return the voxels of the scan that a window covers along each axis."""
        return np.array(self.shape) * zoom / np.array(self.scale)

    @property
    def largest_zoom(self) -> float:
        """Zoom at which a window covers the whole scan, 1 to 4."""
        whole = max(n / covered for n, covered in zip(self.length, self.size(1.0), strict=True))
        return min(max(1.0, whole), MOST_ZOOM)

    def frame(self, center: Floats, zoom: float) -> Frame:
        """Return a window around a center, within the scan; a scan that is smaller is in its middle.

        Args:
            center: position in ``image``, where voxel i begins at i.
            zoom: voxels of the network's grid that a voxel of the window covers, along each axis.
        """
        covered, length = self.size(zoom), np.array(self.length)
        start = np.clip(center - covered / 2, 0, np.maximum(length - covered, 0))
        start = np.where(covered >= length, (length - covered) / 2, start)
        scale = tuple(s / zoom for s in self.scale)
        exact = np.array([s == 1 for s in scale])
        start = np.where(exact, np.ceil(start), start)
        return Frame(self.shape, self.axes, self.flipped, self.length, tuple(float(v) for v in start), scale)

    def read(self, frame: Frame) -> Array:
        """Return the normalized voxels (C, *W) float32 of a window; 0 outside the scan."""
        taps = [_Taps.of(n, frame, axis) for axis, n in enumerate(self.length)]
        part = np.asarray(self.image[(slice(None), *(tap.slab for tap in taps))])
        for axis, tap in enumerate(taps, start=1):
            part = tap.interpolate(part, axis)
        window = self.normalize(part).astype(np.float32, copy=False)
        for axis, tap in enumerate(taps, start=1):
            if not tap.inside.all():
                window = window * tap.inside.reshape([-1 if i == axis else 1 for i in range(window.ndim)])
        return np.ascontiguousarray(window, dtype=np.float32)

    def read_mask(self, mask: Bools, frame: Frame) -> Bools:
        """Return the voxels (*W) of a mask with the axes of ``image`` that are nearest to those of a window."""
        centers = [_centers(frame, axis) for axis in range(mask.ndim)]
        nearest = [
            np.clip(np.floor(c + 0.5), 0, n - 1).astype(int) for c, n in zip(centers, mask.shape, strict=True)
        ]
        inside = [(c > -0.5) & (c < n - 0.5) for c, n in zip(centers, mask.shape, strict=True)]
        return mask[np.ix_(*nearest)] & _outer(inside)

    def covered(self, frame: Frame, margin: float = 0.0) -> tuple[slice, ...]:
        """Return the voxels of ``image`` whose centers lie in a window.

        Args:
            frame: the window.
            margin: share of the window that is left out at each of its sides, except at those of the scan.
        """
        parts: list[slice] = []
        for axis, n in enumerate(self.length):
            start, covered = frame.start[axis], frame.shape[axis] / frame.scale[axis]
            low = 0 if start <= 0 else ceil(start + margin * covered - 0.5)
            high = n if start + covered >= n else ceil(start + (1 - margin) * covered - 0.5)
            parts.append(slice(max(low, 0), min(max(high, low), n)))
        return tuple(parts)


def resample_logits(logits: Array, frame: Frame, region: tuple[slice, ...]) -> Bools:
    """Return where the logits (*W) of a window are positive, (*R) in a region of the scan (linear)."""
    positions: list[Floats] = []
    for axis, part in enumerate(region):
        voxels = np.arange(part.start, part.stop, dtype=np.float64)
        positions.append((voxels + 0.5 - frame.start[axis]) * frame.scale[axis] - 0.5)
    logits = _linear(logits, positions[0], 0)
    positive = np.empty([len(one) for one in positions], bool)
    planes = max(1, _PART_VOXELS // max(1, positive[0].size)) if len(positive) else 1
    for first in range(0, len(positive), planes):
        part = logits[first : first + planes]
        for axis in range(1, part.ndim):
            part = _linear(part, positions[axis], axis)
        np.greater(part, 0, out=positive[first : first + planes])
    return positive


def nearest_mask(mask: Bools, frame: Frame, region: tuple[slice, ...]) -> Bools:
    """Return the voxels (*R) of a region of the scan whose nearest voxel of a mask (*W) of a window is set."""
    return mask[np.ix_(*_nearest(frame, region))]


def nearest_any(mask: Bools, frame: Frame, region: tuple[slice, ...]) -> bool:
    """Return whether a region of the scan has a voxel whose nearest voxel of a mask (*W) of a window is set."""
    return bool(mask[np.ix_(*map(np.unique, _nearest(frame, region)))].any())


def nearest_region(mask: Bools, frame: Frame, region: tuple[slice, ...]) -> tuple[slice, ...] | None:
    """Return the part of a region of the scan whose nearest voxels lie in the box of a mask (*W) of a window.

    None if the mask is empty, or its box is nowhere in the region.
    """
    box = bounding_box(mask)
    if box is None:
        return None
    parts: list[slice] = []
    for places, inner, outer in zip(_nearest(frame, region), box, region, strict=True):
        inside = np.flatnonzero((places >= inner.start) & (places < inner.stop))
        if not inside.size:
            return None
        parts.append(slice(outer.start + int(inside[0]), outer.start + int(inside[-1]) + 1))
    return tuple(parts)


def _nearest(frame: Frame, region: tuple[slice, ...]) -> list[Array]:
    """Return for each axis the voxels (R,) of a window that are nearest to those of a region of the scan."""
    indices: list[Array] = []
    for axis, part in enumerate(region):
        voxels = np.arange(part.start, part.stop, dtype=np.float64)
        places = np.floor((voxels + 0.5 - frame.start[axis]) * frame.scale[axis]).astype(int)
        indices.append(np.clip(places, 0, frame.shape[axis] - 1))
    return indices


@dataclass(frozen=True)
class _Taps:
    """What a window reads along one axis.

    Attributes:
        slab: voxels of the scan; of a zoomed out window only every n-th.
        positions: (W,) centers of the window's voxels in the slab.
        inside: (W,) whether they lie in the scan.
    """

    slab: slice
    positions: Floats
    inside: Bools

    @classmethod
    def of(cls, length: int, frame: Frame, axis: int) -> _Taps:
        centers = _centers(frame, axis)
        step = max(1, int(1 / frame.scale[axis]))
        low = min(max(int(np.floor(centers[0])), 0), length - 1)
        high = low + max(0, ceil((centers[-1] - low) / step)) * step
        return cls(
            slice(low, min(high + 1, length), step),
            (centers - low) / step,
            (centers > -0.5) & (centers < length - 0.5),
        )

    def interpolate(self, part: Array, axis: int) -> Array:
        """Interpolate the slab linearly at the positions; its outermost voxels continue."""
        n = part.shape[axis]
        if n == len(self.positions) and np.array_equal(self.positions, np.arange(n, dtype=np.float64)):
            return part
        return _linear(part, self.positions, axis)


def _centers(frame: Frame, axis: int) -> Floats:
    """Return the centers (W,) of a window's voxels; those of the scan's voxels are 0, 1, ..."""
    return (np.arange(frame.shape[axis], dtype=np.float64) + 0.5) / frame.scale[axis] + frame.start[axis] - 0.5


def _linear(array: Array, positions: Floats, axis: int) -> Array:
    """Interpolate an array linearly along an axis at positions; its outermost values continue."""
    last = array.shape[axis] - 1
    clipped = np.clip(positions, 0, last)
    low = np.minimum(np.floor(clipped).astype(int), max(last - 1, 0))
    weight = (clipped - low).astype(np.float32)
    array = np.ascontiguousarray(array, np.float32)  # take() would copy another layout twice
    below = array.take(low, axis)
    if not weight.any():
        return below
    above = array.take(np.minimum(low + 1, last), axis)
    above -= below
    above *= weight.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    above += below
    return above


def _outer(masks: list[Bools]) -> Bools:
    """Return (*W) bool: whether all masks (W,) of the axes are true."""
    combined = np.ones((1,) * len(masks), bool)
    for axis, mask in enumerate(masks):
        combined = combined & mask.reshape([-1 if i == axis else 1 for i in range(len(masks))])
    return combined
