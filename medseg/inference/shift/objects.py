"""Sizes of the connected objects of each label, and the label's share of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cc3d
import numpy as np

from medseg.data.chunked_statistics import count_values, look_up
from medseg.geometry import Array
from medseg.inference.postprocessing import enclosing_box
from medseg.metrics.typed_wrappers import value_boxes

_MOST_VOXELS = 1 << 24
"""Larger bounding boxes of the foreground are reduced (nearest neighbor) before objects are counted."""
_SPECK = 0.25
"""Objects smaller than this share of the size that half of the foreground exceeds are specks."""


@dataclass(frozen=True)
class ObjectSizes:
    """The connected objects of one label in one image.

    Attributes:
        diameters: diameter of a disk or ball of each object's size, in mm (pixels for pictures without
            spacing), ascending, without specks.
        share: share of the image that the label covers, 0 to 1.
    """

    diameters: tuple[float, ...]
    share: float

    @property
    def median(self) -> float | None:
        """Median diameter; None without objects."""
        return float(np.median(self.diameters)) if self.diameters else None


def measure_objects(
    label_map: Array,
    groups: Mapping[str, tuple[int, ...]],
    spacing: tuple[float, ...],
    objects: Array | None = None,
) -> dict[str, ObjectSizes]:
    """Measure the objects of each label.

    Pixels that share an edge or a corner (voxels: a face, an edge or a corner) belong to the same object, if
    they have the same number.

    Args:
        label_map: (*S) integers.
        groups: label or region → its values; the values of regions may overlap.
        spacing: of the voxels, mm.
        objects: (*S) numbers of objects that may touch; None: the connected components of a label are its
            objects.

    Example:
        >>> label_map = np.zeros((8, 8), np.uint8)
        >>> label_map[1:5, 1:5] = 255
        >>> sizes = measure_objects(label_map, {"nucleus": (255,)}, (1.0, 1.0))["nucleus"]
        >>> round(sizes.diameters[0], 2), sizes.share
        (4.51, 0.25)
    """
    counts = count_values(label_map)
    wanted = sorted({v for values in groups.values() for v in values} & counts.keys())
    index = {value: i for i, value in enumerate(wanted, start=1)}
    dtype = np.min_scalar_type(len(wanted))
    indexed = look_up(label_map, {value: index.get(value, 0) for value in counts}, dtype)
    boxes = value_boxes(indexed, len(wanted))
    measured: dict[str, ObjectSizes] = {}
    for name, values in groups.items():
        own = [index[v] for v in values if v in index]
        if not own:
            measured[name] = ObjectSizes((), 0.0)
            continue
        box = enclosing_box([box for i in own if (box := boxes[i - 1]) is not None])
        share = sum(counts[v] for v in values if v in index) / label_map.size
        inside = np.isin(indexed[box], own)
        numbers = inside if objects is None else np.where(inside, objects[box], 0)
        measured[name] = ObjectSizes(_diameters(numbers, spacing), share)
    return measured


def equivalent_diameter(voxels: Array, voxel: float, dims: int) -> Array:
    """Return the diameter of disks (2D) or balls (3D) of some numbers of voxels of a size ``voxel``."""
    size = voxels * voxel
    return 2 * np.sqrt(size / np.pi) if dims == 2 else np.cbrt(6 * size / np.pi)


def _diameters(numbers: Array, spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Return the diameters of the objects of a mask (*S) bool, or of a map of numbers; not all of it is 0."""
    step = int(np.ceil((numbers.size / _MOST_VOXELS) ** (1 / numbers.ndim)))
    dtype = np.uint8 if numbers.dtype == bool else np.uint32
    part = np.ascontiguousarray(numbers[(slice(None, None, step),) * numbers.ndim], dtype=dtype)
    numbered = np.asarray(cc3d.connected_components(part, connectivity=8 if part.ndim == 2 else 26))
    voxels = np.bincount(numbered.ravel())[1:]
    voxel = float(np.prod(spacing)) * step**part.ndim
    diameters = np.sort(equivalent_diameter(voxels[voxels > 0], voxel, part.ndim))
    return tuple(float(d) for d in _without_specks(diameters, part.ndim))


def _without_specks(diameters: Array, dims: int) -> Array:
    """Drop objects far smaller than the size that half of the foreground exceeds."""
    if len(diameters) == 0:
        return diameters
    total = np.cumsum(diameters**dims)
    half = diameters[np.searchsorted(total, total[-1] / 2)]
    return diameters[diameters >= _SPECK * half]
