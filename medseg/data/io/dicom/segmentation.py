"""DICOM SEG: segments on the grid of the segmented image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from medseg.errors import DataError, GeometryError
from medseg.geometry import LPS_TO_RAS, Array, Grid


@dataclass(frozen=True)
class Segments:
    """The segments of a file.

    Attributes:
        names: label of each segment, by its number.
        masks: (*S) bool mask of each segment on the grid of the image, by its number.
    """

    names: dict[int, str]
    masks: dict[int, Array]


def is_dicom_seg(path: Path) -> bool:
    """Whether a file is a DICOM segmentation."""
    if not path.is_file():
        return False
    try:
        header: Any = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"])
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return False
    return str(header.get("Modality", "")) == "SEG"


def read_segments(path: Path, grid: Grid) -> Segments:
    """Read a BINARY or LABELMAP segmentation; frames that are not stored are empty.

    Args:
        path: the file.
        grid: grid of the segmented image.

    Raises:
        DataError: if the segmentation is FRACTIONAL or has no segments.
        GeometryError: if a frame does not lie on ``grid``.
    """
    data: Any = pydicom.dcmread(path)
    kind = str(data.get("SegmentationType", "?"))
    if kind not in ("BINARY", "LABELMAP"):
        raise DataError(f"{path}: segmentation type {kind}, expected BINARY or LABELMAP", path=path)
    names = {int(s.SegmentNumber): str(s.get("SegmentLabel", "")) for s in data.get("SegmentSequence") or []}
    frames = np.asarray(data.pixel_array)
    frames = frames[None] if frames.ndim == 2 else frames
    masks: dict[int, Array] = {number: np.zeros(grid.shape, dtype=bool) for number in names if number > 0}
    if not masks:
        raise DataError(f"{path}: segmentation without segments", path=path)
    to_image = np.linalg.inv(grid.affine)
    for frame, groups in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        frame_to_image = to_image @ _frame_affine(data, groups)
        values = [int(_group_item(groups, data, "SegmentIdentificationSequence").ReferencedSegmentNumber)]
        values = values if kind == "BINARY" else [int(v) for v in np.unique(frame) if v]
        for value in values:
            inside = frame > 0 if kind == "BINARY" else frame == value
            if inside.any() and value in masks:
                masks[value][_voxels(inside, frame_to_image, grid, path)] = True
    return Segments({n: names[n] for n in masks}, masks)


def _group_item(groups: Any, data: Any, keyword: str) -> Any:
    """The first item of a functional group of the frame, or of the groups shared by all frames."""
    if keyword not in groups and "SharedFunctionalGroupsSequence" in data:
        groups = data.SharedFunctionalGroupsSequence[0]
    if keyword == "SegmentIdentificationSequence" and keyword not in groups:
        empty: Any = pydicom.Dataset()
        empty.ReferencedSegmentNumber = 0  # frames of a LABELMAP reference no segment
        return empty
    return groups[keyword][0]


def _frame_affine(data: Any, groups: Any) -> Array:
    """Affine from (column, row, 0, 1) of a frame to RAS mm."""
    position = np.array(_group_item(groups, data, "PlanePositionSequence").ImagePositionPatient, dtype=float)
    orientation = np.array(
        _group_item(groups, data, "PlaneOrientationSequence").ImageOrientationPatient, dtype=float
    )
    between_rows, between_columns = (
        float(v) for v in _group_item(groups, data, "PixelMeasuresSequence").PixelSpacing
    )
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * between_columns
    affine[:3, 1] = orientation[3:] * between_rows
    affine[:3, 2] = np.cross(orientation[:3], orientation[3:])
    affine[:3, 3] = position
    return LPS_TO_RAS @ affine


def _voxels(inside: Array, frame_to_image: Array, grid: Grid, path: Path) -> tuple[Array, ...]:
    """Indices of the image voxels at the pixels of a frame."""
    rows, columns = np.nonzero(inside)
    positions = frame_to_image @ np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)])
    nearest = np.rint(positions[:3])
    off = np.abs(positions[:3] - nearest) * np.array(grid.spacing)[:, None]
    outside = (nearest < 0).any() or (nearest >= np.array(grid.shape)[:, None]).any()
    if outside or off.max() > 0.1 * min(grid.spacing):
        where = "outside the image" if outside else f"{off.max():.3g} mm from its voxels"
        raise GeometryError(
            f"{path}: a frame of the segmentation is not on the image's grid: {where}", path=path
        )
    return tuple(nearest.astype(int))
