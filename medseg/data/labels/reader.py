"""Read the label files of a case into one map of values on the image's grid.

A case has a label map, a picture coded by colors, a binary or probability file for each label, a binary file
for each object, a DICOM SEG, COCO annotations, or GeoJSON.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import Field

from medseg.config.base import Spec
from medseg.data.cases import Case
from medseg.data.io.coco import CocoObject, read_coco_objects
from medseg.data.io.coco_panoptic import is_panoptic_label
from medseg.data.io.dicom.segmentation import is_dicom_seg, read_segments
from medseg.data.io.readers import read_scan
from medseg.data.labels.objects.files import (
    is_geojson,
    join_object_masks,
    read_geojson_maps,
    read_panoptic_classes,
    read_panoptic_objects,
)
from medseg.data.labels.objects.numbering import InstanceSource, join_maps, number_objects
from medseg.data.labels.schema import Color
from medseg.data.scans import Scan, align_to_grid, as_label_map, check_finite
from medseg.errors import DataError, GeometryError, LabelGridError
from medseg.geometry import Array, Grid
from medseg.instances.label_maps import split_components

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelMap:
    """Label values of a case.

    Attributes:
        values: (*S) integers, on the image's grid.
        dtype: type of the first file's voxels; ``masks``, ``segments``, ``polygons`` for other kinds of file,
            ``float`` for probabilities.
        objects: (*S) int32, number of the object that a voxel belongs to, 0 for none; None if the reader does
            not tell objects apart.
    """

    values: Array
    dtype: str
    objects: Array | None = None


class LabelReader(Spec):
    """Reader of a dataset's label files. The default reads label maps that hold their values.

    Attributes:
        values: label → value, for labels with a file each.
        colors: label → RGB, for label maps coded by colors; each label is in ``values``.
        overlapping: labels may overlap; a voxel's value is then the sum of its labels' values, which are
            powers of two.
        soft: files hold probabilities from 0 to 1.
        ignored: label → value, for labels with a file each whose voxels count nowhere.
        instances: how objects are separated (``data.instances``); None if they are not. With ``keep``, the
            values of a label map number objects, whose voxels then have the one value in ``values``.
        kept_values: with ``instances``, values that are no objects: the background, and ignored voxels.
        object_files: each file of a case is an object of the only label.
        crowd_value: value of the voxels of crowds, which COCO does not divide into objects, and of void.

    Example:
        >>> from medseg.data.cases import Case
        >>> from medseg.data.io.multichannel import read_image
        >>> case = Case("a", Path("a.nii.gz"), Path("a_label.nii.gz"))
        >>> label_map = LabelReader().read(case, read_image(case))  # doctest: +SKIP
    """

    values: dict[str, int] = Field(default_factory=dict)
    colors: dict[str, Color] = Field(default_factory=dict)
    overlapping: bool = False
    soft: bool = False
    ignored: dict[str, int] = Field(default_factory=dict)
    instances: InstanceSource | None = None
    kept_values: tuple[int, ...] = ()
    object_files: bool = False
    crowd_value: int | None = None

    def read(self, case: Case, scan: Scan) -> LabelMap | None:
        """Read the label map of a case.

        Args:
            case: the case.
            scan: its image.

        Returns:
            The values in the files; None for a case without label files.

        Raises:
            GeometryError: the label's grid is not the image's.
            DataError: a file is not a label map, labels overlap although ``overlapping`` is not set, or an
                object has a negative number.
        """
        if not case.label_files:
            return None
        label_map = self._read_values(case, scan) if self.instances is None else self._read_objects(case, scan)
        for name, value in self.ignored.items():
            if name in case.masks:
                ignored = _read_mask(case.masks[name], scan.grid)
                label_map.values[ignored] = value
                if label_map.objects is not None:
                    label_map.objects[ignored] = 0
        return label_map

    def read_probabilities(self, case: Case, scan: Scan) -> Array:
        """Read soft labels, from a file for each label or from one file with channels.

        The background is what the labels leave of 1 where no file or channel holds it.

        Returns:
            (K, *S) float32, background and labels, with sum 1.

        Raises:
            DataError: values are outside 0 to 1, or the channels do not correspond to the labels.
        """
        names = list(self.values)
        if case.masks:
            scans = {name: _read_on_grid(path, scan.grid) for name, path in case.masks.items() if name in names}
            maps = {name: _probability(one, one.array[0]) for name, one in scans.items()}
        else:
            assert case.label is not None
            label = _read_on_grid(case.label, scan.grid)
            wanted = names if len(label.array) == len(names) else names[1:]
            if len(label.array) != len(wanted):
                raise DataError(
                    f"{label.path}: has {len(label.array)} channels, expected one for each of {names}",
                    path=label.path,
                )
            maps = {name: _probability(label, one) for name, one in zip(wanted, label.array, strict=True)}
        zero = np.zeros(scan.grid.shape, dtype=np.float32)
        rest = np.stack([maps.get(name, zero) for name in names[1:]])
        background = maps[names[0]] if names[0] in maps else np.clip(1 - rest.sum(axis=0), 0, 1)
        soft = np.concatenate([background[None], rest])
        return soft / np.maximum(soft.sum(axis=0), 1e-6)

    def _read_objects(self, case: Case, scan: Scan) -> LabelMap:
        """Read the values of the voxels and the numbers of their objects."""
        if self.instances == "components" and not is_panoptic_label(case.label):
            label_map = self._read_values(case, scan)
            outside = np.isin(label_map.values, self.kept_values)
            return replace(label_map, objects=split_components(np.where(outside, 0, label_map.values))[0])
        if self.object_files and case.label is None:
            return LabelMap(*self._join_files(case, scan.grid))
        if is_geojson(case.label):
            return LabelMap(*self._from_geojson(case, scan.grid))
        if is_panoptic_label(case.label):
            assert case.label is not None
            values, objects = read_panoptic_objects(case.label, scan.grid, self.crowd_value)
            return LabelMap(values, "panoptic", objects)
        if case.label is None:
            files = ((self.values[name], path) for name, path in case.masks.items() if name in self.values)
            maps = ((value, as_label_map(_read_on_grid(path, scan.grid))) for value, path in files)
            values, objects = join_maps(maps, scan.grid.shape)
            return LabelMap(values, "masks", objects)
        if ".json#" in case.label.name:
            return LabelMap(*self._objects_from_coco(case.label, scan.grid))
        label_map = AS_STORED.read(case, scan)
        assert label_map is not None
        outside = np.isin(label_map.values, self.kept_values)
        (value,) = self.values.values()
        objects = number_objects(np.where(outside, 0, label_map.values))
        return LabelMap(np.where(outside, label_map.values, value), label_map.dtype, objects)

    def _join_files(self, case: Case, grid: Grid) -> tuple[Array, str, Array]:
        """Number the objects of a case that has a file for each."""
        (value,) = self.values.values()
        masks = (_read_mask(path, grid) for path in case.masks.values())
        values, objects = join_object_masks(masks, value, grid.shape)
        return values, "masks", objects

    def _from_geojson(self, case: Case, grid: Grid) -> tuple[Array, str, Array]:
        """Draw the objects of GeoJSON."""
        assert case.label is not None
        values, objects = read_geojson_maps(case.label, self.values, grid.shape)
        return values, "polygons", objects

    def _objects_from_coco(self, label: Path, grid: Grid) -> tuple[Array, str, Array]:
        """Draw the objects of COCO annotations, the largest first; crowds are below all of them."""
        values, objects = np.zeros(grid.shape, np.int32), np.zeros(grid.shape, np.int32)
        crowds_first = sorted(_coco_objects(label, grid), key=lambda one: not one.is_crowd)
        for number, found in enumerate(crowds_first, start=1):
            value = self.crowd_value if found.is_crowd else found.category
            if value is None:
                continue
            values[found.mask] = value
            objects[found.mask] = 0 if found.is_crowd else number
        return values, "polygons", number_objects(objects)

    def _read_values(self, case: Case, scan: Scan) -> LabelMap:
        if self.soft:
            likeliest = np.argmax(self.read_probabilities(case, scan), axis=0)
            return LabelMap(likeliest.astype(np.uint8), "float")
        if self.object_files and case.label is None:
            return LabelMap(*self._join_files(case, scan.grid)[:2])
        if is_geojson(case.label):
            return LabelMap(*self._from_geojson(case, scan.grid)[:2])
        if is_panoptic_label(case.label):
            assert case.label is not None
            return LabelMap(read_panoptic_classes(case.label, scan.grid, self.crowd_value), "panoptic")
        if case.label is None:
            masks = ((name, _read_mask(path, scan.grid)) for name, path in case.masks.items())
            values = ((self.values[name], mask) for name, mask in masks if name in self.values)
            return LabelMap(self._combine(values, scan, case), "masks")
        if ".json#" in case.label.name:
            return LabelMap(self._from_coco(case.label, scan.grid), "polygons")
        if is_dicom_seg(case.label):
            return LabelMap(self._from_segments(case, case.label, scan), "segments")
        label = _read_on_grid(case.label, scan.grid)
        dtype = str(label.array.dtype)
        if self.colors:
            return LabelMap(self._from_colors(label), dtype)
        if self.overlapping and len(label.array) == len(self.values) > 1:
            channels = zip(self.values.values(), label.array > 0, strict=True)
            return LabelMap(self._combine(channels, scan, case), dtype)
        return LabelMap(as_label_map(label), dtype)

    def _combine(self, masks: Iterable[tuple[int, Array]], scan: Scan, case: Case) -> Array:
        """Combine masks into one map: of their values, or of the sums of values where labels overlap."""
        combined = np.zeros(scan.grid.shape, dtype=np.int32)
        for value, mask in masks:
            if self.overlapping:
                combined[mask] |= value
                continue
            shared = mask & (combined != 0)
            if shared.any():
                where = case.label or case.label_files[0].parent
                raise DataError(
                    f"{where}: the label of value {value} shares {int(shared.sum())} voxels with another label",
                    hint="Set data.labels.overlapping=true to train labels that overlap.",
                    case=case.id,
                    path=where,
                )
            combined[mask] = value
        return combined

    def _from_segments(self, case: Case, path: Path, scan: Scan) -> Array:
        """Read a DICOM SEG: segment numbers, or the values of the labels with the segments' names."""
        segments = read_segments(path, scan.grid)
        numbers = segments.masks.items()
        if self.values:
            named = {n: self.values[name] for n, name in segments.names.items() if name in self.values}
            undeclared = sorted(set(segments.names.values()) - set(self.values))
            if undeclared:
                _LOGGER.warning(
                    "%s: segments of undeclared labels are ignored: %s", path, ", ".join(undeclared)
                )
            numbers = ((named[n], mask) for n, mask in numbers if n in named)
        return self._combine(numbers, scan, case)

    def _from_coco(self, label: Path, grid: Grid) -> Array:
        values = np.zeros(grid.shape, dtype=np.int32)
        for found in _coco_objects(label, grid):
            mask, value = found.mask, found.category
            values[mask] = values[mask] | value if self.overlapping else value
        return values

    def _from_colors(self, label: Scan) -> Array:
        """Turn a color-coded picture into values.

        Raises:
            DataError: colors are not declared; the message lists them.
        """
        array = label.array
        if isinstance(label.header, list):  # a palette picture: its colors count, not its indices
            table = np.zeros((256, 3), dtype=np.int64)
            colors = np.array(label.header).reshape(-1, 3)
            table[: len(colors)] = colors
            array = np.moveaxis(table[array[0]], -1, 0)
        if len(array) not in (3, 4):
            raise DataError(
                f"{label.path}: expected a color picture for data.labels.colors, got {len(array)} channels",
                path=label.path,
            )
        packed = (
            (array[0].astype(np.int64) << 16) | (array[1].astype(np.int64) << 8) | array[2].astype(np.int64)
        )
        declared = {(r << 16) | (g << 8) | b: self.values[name] for name, (r, g, b) in self.colors.items()}
        present, counts = np.unique(packed, return_counts=True)
        undeclared = [(int(c), int(n)) for c, n in zip(present, counts, strict=True) if int(c) not in declared]
        if undeclared:
            shown = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255}): {n} pixels" for c, n in undeclared[:8])
            more = f" and {len(undeclared) - 8} more" if len(undeclared) > 8 else ""
            raise DataError(
                f"{label.path}: undeclared colors: {shown}{more}",
                hint="Declare them under data.labels.colors.",
                path=label.path,
            )
        values = np.array([declared[int(c)] for c in present])
        return values[np.searchsorted(present, packed)]


AS_STORED = LabelReader()
"""Label maps hold their values themselves."""


def read_foreground(case: Case, scan: Scan) -> Array | None:
    """Read the mask of a case's foreground, (*S) bool: where it is not 0; None if the case has no such mask.

    Raises: GeometryError, DataError as :meth:`LabelReader.read`.
    """
    return None if case.foreground is None else _read_mask(case.foreground, scan.grid)


def _read_on_grid(path: Path, grid: Grid) -> Scan:
    label = read_scan(path)
    try:
        return align_to_grid(label, grid)
    except GeometryError as error:
        raise LabelGridError(
            f"label grid differs from image: {error} (label {path.name})",
            same_shape=label.grid.shape == grid.shape,
            hint="Resample the label map onto its image with nearest neighbor "
            "(medseg data check DATA --fix DIR writes such a copy).",
            path=path,
        ) from error


def _coco_objects(label: Path, grid: Grid) -> Iterator[CocoObject]:
    """Read the objects of one image of COCO annotations; raise GeometryError if its size is not the image's."""
    file, _, number = str(label).rpartition("#")
    for found in read_coco_objects(Path(file), int(number)):
        if found.mask.shape != grid.shape:
            raise GeometryError(
                f"{label}: declares an image of {found.mask.shape} pixels, the image has {grid.shape}",
                path=label,
            )
        yield found


def _read_mask(path: Path, grid: Grid) -> Array:
    """Read a binary file of one label: what is not 0 is inside."""
    return as_label_map(_read_on_grid(path, grid)) != 0


def _probability(label: Scan, channel: Array) -> Array:
    check_finite(label)
    low, high = float(channel.min()), float(channel.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise DataError(
            f"{label.path}: expected probabilities from 0 to 1, got {low:.4g} to {high:.4g}",
            hint="Divide them by the value that represents 1.",
            path=label.path,
        )
    return np.clip(channel, 0, 1).astype(np.float32)
