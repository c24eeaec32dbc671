"""Sizes, thickness and position of the labeled structures of one case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from medseg.config.base import Spec
from medseg.data.cases import Case
from medseg.data.io.multichannel import read_image
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan
from medseg.geometry import Array, to_ras

_MOST_VOXELS = 4_000_000
"""Voxels of the block around a structure that is measured; larger ones are cut to their middle."""
_SPECK = 0.1
"""Components below this share of the typical size do not count in the radius."""


class Structure(Spec):
    """Measurements of one class in one case.

    Attributes:
        components: number of connected components.
        component_voxels: size of the component that half of the voxels are in at most; unlike the median over
            the components, it hardly depends on specks.
        radius: median radius of the largest balls inside the structure, in voxels, without components much
            smaller than ``component_voxels``. A line of single voxels has radius 1.
        center: mean position along each axis, 0 at the first voxel and 1 at the last.
        extent: share of each axis that the structure spans, without its outermost percents.
    """

    components: int
    component_voxels: float
    radius: float
    center: tuple[float, ...]
    extent: tuple[float, ...]


class CaseStructures(Spec):
    """Measurements of one case.

    Attributes:
        nonzero_share: share of the voxels that are not 0 in all channels.
        classes: name of a class in the case → its measurements.
        background_radius: thickness of the background, as ``Structure.radius``; None without background.
    """

    nonzero_share: float
    classes: dict[str, Structure]
    background_radius: float | None = None


@dataclass(frozen=True)
class StructureMeasuring:
    """Measures cases; processes can receive it.

    Attributes:
        reader: how label files are read.
        labels: names and values of the labels.
    """

    reader: LabelReader
    labels: LabelSchema

    def __call__(self, case: Case) -> CaseStructures:
        """Measure one case; volumes with their axes to the right, anterior and superior."""
        scan = read_image(case)
        label_map = self.reader.read(case, scan)
        classes: dict[str, Structure] = {}
        background = None
        if label_map is not None:
            encoded = _oriented(self.labels.encode(label_map.values, case.id)[None], scan)[0]
            background = measure_background(encoded, self.labels)
            if label_map.objects is not None:
                encoded = separate(encoded, _oriented(label_map.objects[None], scan)[0])
            classes = measure_classes(encoded, self.labels)
        nonzero = float(np.any(scan.array != 0, axis=0).mean())
        return CaseStructures(nonzero_share=nonzero, classes=classes, background_radius=background)


def separate(encoded: Array, objects: Array) -> Array:
    """Return an encoded label map (*S) without the voxels at which objects touch, which then are components.

    Args:
        encoded: (*S) codes.
        objects: (*S) numbers of the objects, 0 for background.
    """
    contact = np.zeros(objects.shape, bool)
    for axis in range(objects.ndim):
        first, second = np.moveaxis(objects, axis, 0)[:-1], np.moveaxis(objects, axis, 0)[1:]
        touching = (first != second) & (first > 0) & (second > 0)
        np.moveaxis(contact, axis, 0)[:-1] |= touching
        np.moveaxis(contact, axis, 0)[1:] |= touching
    return np.where(contact, 0, encoded)


def measure_classes(encoded: Array, labels: LabelSchema) -> dict[str, Structure]:
    """Measure the classes of an encoded label map (*S), without the background."""
    names = list(labels.names)
    first = labels.first_evaluated + 1
    return {
        names[code - 1]: measure_structure(encoded, code, box)
        for code, box in enumerate(ndimage.find_objects(encoded), start=1)
        if box is not None and code >= first
    }


def measure_background(encoded: Array, labels: LabelSchema) -> float | None:
    """Return the radius of the background of an encoded picture (H, W); None for volumes or if there is none.

    Membranes between cells, or gaps between objects, may be thinner than any class.
    """
    if not labels.background or encoded.ndim != 2:
        return None
    box = _middle([slice(0, n) for n in encoded.shape])
    return inscribed_radius(np.pad(encoded[tuple(box)] == 1, 1)) or None


def measure_structure(encoded: Array, code: int, box: Sequence[slice]) -> Structure:
    """Measure the voxels with value ``code`` in a box that holds all of them.

    Example:
        >>> line = np.zeros((5, 9), np.uint8)
        >>> line[2, 1:8] = 1
        >>> measure_structure(line, 1, (slice(2, 3), slice(1, 8))).radius
        1.0
    """
    box = _middle(box)
    mask = np.pad(encoded[tuple(box)] == code, 1)
    components, sizes = _label_components(mask)
    typical = weighted_median(sizes, sizes)
    without_specks = np.concatenate([[False], sizes >= _SPECK * typical])[components]
    positions = [axis + part.start - 1 for axis, part in zip(np.nonzero(mask), box, strict=True)]
    if not sizes.size:  # the middle of a large box is empty
        positions = [np.array([part.start, part.stop - 1]) for part in box]
    return Structure(
        components=len(sizes),
        component_voxels=typical,
        radius=inscribed_radius(without_specks),
        center=tuple(
            float(axis.mean()) / max(n - 1, 1) for axis, n in zip(positions, encoded.shape, strict=True)
        ),
        extent=tuple(_extent(axis, n) for axis, n in zip(positions, encoded.shape, strict=True)),
    )


def _extent(positions: Array, length: int) -> float:
    low, high = np.percentile(positions, (1, 99))
    return float((high - low + 1) / length)


def inscribed_radius(mask: Array) -> float:
    """Return the median radius, in voxels, of the largest balls inside a mask (*S); 0 for an empty one.

    The radii are the values of the distance transform where it is not smaller than in any adjacent voxel.
    Voxels outside the array count as background.

    Example:
        >>> inscribed_radius(np.pad(np.ones((3, 30), bool), 1))
        2.0
    """
    if not mask.any():
        return 0.0
    distance = np.asarray(ndimage.distance_transform_edt(mask))
    ridge = mask & (distance >= ndimage.maximum_filter(distance, size=3))
    return float(np.median(distance[ridge]))


def weighted_median(values: Array, weights: Array) -> float:
    """Return the smallest value at which half of the weight is reached; 0 without values.

    Example:
        >>> weighted_median(np.array([1, 1, 1, 10]), np.array([1, 1, 1, 10]))
        10.0
    """
    if not values.size:
        return 0.0
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _label_components(mask: Array) -> tuple[Array, Array]:
    """Return a map of the components, numbered from 1, and their sizes; corners connect voxels."""
    counted = mask.astype(np.uint8)  # of boolean arrays, cc3d 4.1 numbers wrong pixels
    components = cc3d.connected_components(counted, connectivity=8 if mask.ndim == 2 else 26)
    return components, np.bincount(components.ravel())[1:]


def _middle(box: Sequence[slice]) -> list[slice]:
    """Cut a box to its middle, the longest axes first, until it has few enough voxels."""
    sizes = [part.stop - part.start for part in box]
    while np.prod(sizes, dtype=np.float64) > _MOST_VOXELS:
        longest = int(np.argmax(sizes))
        sizes[longest] = max(1, sizes[longest] * 3 // 4)
    centers = [(part.start + part.stop) // 2 for part in box]
    return [slice(c - n // 2, c - n // 2 + n) for c, n in zip(centers, sizes, strict=True)]


def _oriented(array: Array, scan: Scan) -> Array:
    return array if scan.kind == "picture" else to_ras(array, scan.grid.affine)[0]
