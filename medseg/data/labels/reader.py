"""From a case's label files to one map of values on the image's grid, whatever form they have.

A label map; a picture coded by colors; one file for each label, binary or with probabilities; a DICOM SEG;
COCO annotations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from medseg.config.base import Spec
from medseg.data.cases import Case
from medseg.data.io.dicom.segmentation import is_dicom_seg, read_segments
from medseg.data.io.readers import read_scan
from medseg.data.labels.coco_annotations import coco_masks
from medseg.data.labels.schema import Color, LabelSchema
from medseg.data.scans import Scan, align_to_grid, as_label_map, check_finite
from medseg.errors import DataError, GeometryError
from medseg.geometry import Array, Grid


class LabelReader(Spec):
    """How label files become values.

    Attributes:
        values: label → value, for labels with a file each.
        colors: label → RGB, for label maps coded by colors; every one is in ``values``.
        overlapping: labels may overlap; a voxel's value is then the sum of its labels' values, which are
            powers of two.
        soft: files hold probabilities from 0 to 1.
        ignored: label → value, for labels with a file each whose voxels count nowhere.
        foreground: values whose voxels count in statistics of intensities; none: all but ``background``.
        background: values that never count in them.
    """

    values: dict[str, int] = Field(default_factory=dict)
    colors: dict[str, Color] = Field(default_factory=dict)
    overlapping: bool = False
    soft: bool = False
    ignored: dict[str, int] = Field(default_factory=dict)
    foreground: tuple[int, ...] | None = None
    background: tuple[int, ...] = (0,)

    def measuring(self, labels: LabelSchema | None, ignore_value: int | None) -> LabelReader:
        """The same rules, with the values of ``labels`` as foreground: neither the background's, nor
        ``ignore_value``, nor values that are not declared. Without labels every other value counts.
        """
        if labels is None:
            background = (0,) if ignore_value is None else (0, ignore_value)
            return self.model_copy(update={"background": background})
        groups = list(labels.names.values())
        background = [*(groups[0] if labels.background else ())]
        background += [labels.ignore_value] if labels.ignore_value is not None else []
        values = {v for group in groups for v in group} - set(background)
        foreground = None if labels.collapse_instances else tuple(sorted(values))
        return self.model_copy(update={"foreground": foreground, "background": tuple(background)})

    @property
    def reading(self) -> LabelReader:
        """The same rules without what only statistics need."""
        return self.model_copy(update={"foreground": None, "background": (0,)})

    def is_foreground(self, values: Array) -> Array:
        """(*S) bool: where a map of values (*S) holds foreground."""
        if self.foreground is not None:
            return np.isin(values, self.foreground)
        return ~np.isin(values, self.background)


AS_STORED = LabelReader()
"""Label maps hold their values themselves."""


@dataclass(frozen=True)
class Target:
    """A map of values (*S) on the image's grid, and the type it is stored in (of the first file)."""

    values: Array
    stored: str


def read_target(case: Case, scan: Scan, rules: LabelReader = AS_STORED) -> Target | None:
    """The map of values of a case; none for an unlabeled case.

    Raises: GeometryError if the label's grid is another; DataError if it is no label map, or if labels
    overlap that must not.
    """
    if not case.label_files:
        return None
    target = _read_values(case, scan, rules)
    for name, value in rules.ignored.items():
        if name in case.masks:
            target.values[_mask_of(case.masks[name], scan.grid)] = value
    return target


def _read_values(case: Case, scan: Scan, rules: LabelReader) -> Target:
    if rules.soft:
        likeliest = np.argmax(read_probabilities(case, scan, rules), axis=0)
        return Target(likeliest.astype(np.uint8), "float")
    if case.label is None:
        masks = ((name, _mask_of(path, scan.grid)) for name, path in case.masks.items())
        values = ((rules.values[name], mask) for name, mask in masks if name in rules.values)
        return Target(_combined(values, scan, rules, case), "masks")
    if ".json#" in case.label.name:
        return Target(_from_coco(case.label, scan.grid, rules), "polygons")
    if is_dicom_seg(case.label):
        return Target(_from_segments(case, case.label, scan, rules), "segments")
    label = _label_scan(case.label, scan.grid)
    stored = str(label.array.dtype)
    if rules.colors:
        return Target(_from_colors(label, rules), stored)
    if rules.overlapping and len(label.array) == len(rules.values) > 1:
        channels = zip(rules.values.values(), label.array > 0, strict=True)
        return Target(_combined(channels, scan, rules, case), stored)
    return Target(as_label_map(label), stored)


def read_probabilities(case: Case, scan: Scan, rules: LabelReader) -> Array:
    """(K, *S) float32 probabilities of background and labels, from a file for each or one with channels.

    Where nothing is said of the background it is what the labels leave of 1.
    Raises: DataError for values outside 0 to 1, or channels that are not one for each label.
    """
    names = list(rules.values)
    if case.masks:
        known = {name: _label_scan(path, scan.grid) for name, path in case.masks.items() if name in names}
        maps = {name: _probability(one, one.array[0]) for name, one in known.items()}
    else:
        assert case.label is not None
        label = _label_scan(case.label, scan.grid)
        wanted = names if len(label.array) == len(names) else names[1:]
        if len(label.array) != len(wanted):
            raise DataError(f"{label.path}: has {len(label.array)} channels, expected one for each of {names}")
        maps = {name: _probability(label, one) for name, one in zip(wanted, label.array, strict=True)}
    zero = np.zeros(scan.grid.shape, dtype=np.float32)
    rest = np.stack([maps.get(name, zero) for name in names[1:]])
    background = maps[names[0]] if names[0] in maps else np.clip(1 - rest.sum(axis=0), 0, 1)
    soft = np.concatenate([background[None], rest])
    return soft / np.maximum(soft.sum(axis=0), 1e-6)


def _label_scan(path: Path, grid: Grid) -> Scan:
    try:
        return align_to_grid(read_scan(path), grid)
    except GeometryError as error:
        raise GeometryError(
            f"label grid differs from image: {error} (label {path.name}). Resample the label map onto its "
            "image with nearest neighbor (medseg data check DATA --fix DIR does)."
        ) from error


def read_foreground(case: Case, scan: Scan) -> Array | None:
    """(*S) bool: what is not 0 in the mask of a case's foreground, if any; errors as ``read_target``."""
    return None if case.foreground is None else _mask_of(case.foreground, scan.grid)


def _mask_of(path: Path, grid: Grid) -> Array:
    """A binary file of one label: what is not 0 is inside."""
    return as_label_map(_label_scan(path, grid)) != 0


def _combined(pairs: Iterable[tuple[int, Array]], scan: Scan, rules: LabelReader, case: Case) -> Array:
    """Masks as one map: their values, or the sums of them where they overlap."""
    target = np.zeros(scan.grid.shape, dtype=np.int32)
    for value, mask in pairs:
        if rules.overlapping:
            target[mask] |= value
            continue
        shared = mask & (target != 0)
        if shared.any():
            where = case.label or case.label_files[0].parent
            raise DataError(
                f"{where}: the label of value {value} shares {int(shared.sum())} voxels with another. Set "
                "data.overlapping=true to train labels that overlap."
            )
        target[mask] = value
    return target


def _from_segments(case: Case, path: Path, scan: Scan, rules: LabelReader) -> Array:
    """A DICOM SEG: segment numbers, or the values of the labels its segments are named after."""
    segments = read_segments(path, scan.grid)
    numbers = segments.masks.items()
    if rules.values:
        named = {n: rules.values[name] for n, name in segments.names.items() if name in rules.values}
        numbers = ((named[n], mask) for n, mask in numbers if n in named)
    return _combined(numbers, scan, rules, case)


def _from_coco(label: Path, grid: Grid, rules: LabelReader) -> Array:
    file, _, number = str(label).rpartition("#")
    target = np.zeros(grid.shape, dtype=np.int32)
    for value, mask in coco_masks(Path(file), int(number)):
        if mask.shape != grid.shape:
            raise GeometryError(f"{label}: says the image is {mask.shape} pixels, it is {grid.shape}")
        target[mask] = target[mask] | value if rules.overlapping else value
    return target


def _from_colors(label: Scan, rules: LabelReader) -> Array:
    """A color-coded picture as values.

    Raises: DataError listing the colors nobody named.
    """
    array = label.array
    if isinstance(label.header, list):  # a palette picture: its colors count, not its indices
        table = np.zeros((256, 3), dtype=np.int64)
        colors = np.array(label.header).reshape(-1, 3)
        table[: len(colors)] = colors
        array = np.moveaxis(table[array[0]], -1, 0)
    if len(array) not in (3, 4):
        raise DataError(
            f"{label.path}: expected a color picture (data.colors is set), got {len(array)} channels"
        )
    packed = (array[0].astype(np.int64) << 16) | (array[1].astype(np.int64) << 8) | array[2].astype(np.int64)
    known = {(r << 16) | (g << 8) | b: rules.values[name] for name, (r, g, b) in rules.colors.items()}
    found, counts = np.unique(packed, return_counts=True)
    foreign = [(int(c), int(n)) for c, n in zip(found, counts, strict=True) if int(c) not in known]
    if foreign:
        shown = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255}): {n} pixels" for c, n in foreign[:8])
        more = f" and {len(foreign) - 8} more" if len(foreign) > 8 else ""
        raise DataError(f"{label.path}: colors nobody named: {shown}{more}. Name them under data.colors.")
    values = np.array([known[int(c)] for c in found])
    return values[np.searchsorted(found, packed)]


def _probability(label: Scan, channel: Array) -> Array:
    check_finite(label)
    low, high = float(channel.min()), float(channel.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise DataError(
            f"{label.path}: expected probabilities from 0 to 1, found {low:.4g} to {high:.4g}. Divide them by "
            "what stands for certain."
        )
    return np.clip(channel, 0, 1).astype(np.float32)
