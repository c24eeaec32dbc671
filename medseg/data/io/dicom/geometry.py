"""Geometry of DICOM series: positions of the slices and the grid of the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from medseg.data.scans import Scan
from medseg.errors import GeometryError
from medseg.geometry import LPS_TO_RAS, Array, Grid

UnevenSlices = Literal["refuse", "resample"]
"""Handling of series with unevenly spaced or missing slices: raise an error, or resample to an even grid."""

_SAME_POSITION = 0.01
"""Distance below which two slices count as being at the same position, as a share of the slice distance."""


@dataclass(frozen=True)
class DicomSlice:
    """One slice of a series, stored as a file or as a frame of a file.

    Attributes:
        path: the file.
        number: instance number, or frame number starting at 1.
        size: rows and columns.
        spacing: distance between rows and between columns, mm.
        position: (3,) position of the first pixel, LPS mm.
        orientation: (6,) directions of rows and columns, LPS.
        thickness: slice thickness, mm.
        frame: index in a multi-frame file; None for a single-frame file.
        rescale: slope and intercept of the stored values.
        stored: data type of the stored values: bits allocated, bits stored, pixel representation (1: signed).
        modality: modality in terms of DICOM.
    """

    path: Path
    number: int
    size: tuple[int, int]
    spacing: tuple[float, float]
    position: Array
    orientation: Array
    thickness: float = 1.0
    frame: int | None = None
    rescale: tuple[float, float] = (1.0, 0.0)
    stored: tuple[int, ...] = ()
    modality: str | None = None


def series_grid(slices: Sequence[DicomSlice]) -> Grid:
    """Return the even grid (columns, rows, slices) of a series, without reading its pixels."""
    first = slices[0]
    count, gap = _even_slices(slices)
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing[0]
    affine[:3, 2] = _normal(first) * gap
    affine[:3, 3] = first.position
    return Grid((first.size[1], first.size[0], count), LPS_TO_RAS @ affine)


def sort_slices(slices: list[DicomSlice], where: Path, uneven: UnevenSlices = "refuse") -> list[DicomSlice]:
    """Sort the slices of a series along their normal and check that they form a regular volume.

    Args:
        slices: the slices in any order.
        where: path of the series, for error messages.
        uneven: ``resample`` accepts unevenly spaced slices.

    Raises:
        GeometryError: naming the slices at fault.
    """
    first = slices[0]
    _check_uniform(slices, where)
    normal = _normal(first)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    if len(slices) == 1:
        return slices
    positions = _positions(slices)
    gaps = np.diff(positions)
    usual = float(np.median(gaps))
    for i in np.flatnonzero(gaps < _SAME_POSITION * max(usual, 1e-3)):
        raise GeometryError(
            f"{where}: two slices at the same place, {positions[i]:.2f} mm along the normal: "
            f"{_name(slices[i])} and {_name(slices[i + 1])}",
            hint="Remove the duplicate.",
            path=where,
        )
    _check_alignment(slices, positions, normal, where)
    fault = describe_uneven_spacing(slices)
    if fault and uneven == "refuse":
        raise GeometryError(
            f"{where}: {fault}",
            hint="Export the complete series again, or resample it to an even grid: medseg infer "
            "--dicom-geometry resample.",
            path=where,
        )
    return slices


def describe_uneven_spacing(slices: Sequence[DicomSlice]) -> str | None:
    """Describe the largest deviation from even spacing of sorted slices; None if they are evenly spaced."""
    if len(slices) < 3:
        return None
    positions = _positions(slices)
    gaps = np.diff(positions)
    usual = float(np.median(gaps))
    wrong = np.flatnonzero(np.abs(gaps - usual) > max(0.01 * usual, 0.01))
    if not len(wrong):
        return None
    i = int(wrong[np.argmax(np.abs(gaps[wrong] - usual))])
    count = gaps[i] / usual
    whole = round(count) >= 2 and abs(count - round(count)) < 0.05
    missing = "1 slice is" if round(count) == 2 else f"{round(count) - 1} slices are"
    what = f"{missing} missing" if whole else "the slices are unevenly spaced"
    return (
        f"{what} between {_name(slices[i])} and {_name(slices[i + 1])}, at {positions[i]:.2f} to "
        f"{positions[i + 1]:.2f} mm along the normal: a gap of {gaps[i]:.2f} mm, elsewhere {usual:.2f} mm"
    )


def _even_slices(slices: Sequence[DicomSlice]) -> tuple[int, float]:
    """Number and distance (mm) of the slices of an even grid; the thickness if there is a single slice."""
    if len(slices) == 1:
        return 1, slices[0].thickness
    if not describe_uneven_spacing(slices):
        return len(slices), _mean_gap(slices)
    positions = _positions(slices)
    steps = max(1, round(float((positions[-1] - positions[0]) / np.median(np.diff(positions)))))
    return steps + 1, float(positions[-1] - positions[0]) / steps


def resample_to_even_grid(scan: Scan, slices: Sequence[DicomSlice], fault: str) -> Scan:
    """Interpolate a scan (C, X, Y, slices) linearly along its slices to ``series_grid(slices)``."""
    grid = series_grid(slices)
    positions = _positions(slices)
    wanted = np.linspace(positions[0], positions[-1], grid.shape[2])
    below = np.clip(np.searchsorted(positions, wanted, side="right") - 1, 0, len(slices) - 2)
    share = (wanted - positions[below]) / (positions[below + 1] - positions[below])
    array = np.empty((*scan.array.shape[:3], len(wanted)), scan.array.dtype)
    for i, (k, upper) in enumerate(zip(below, share, strict=True)):
        plane = (1 - upper) * scan.array[..., k] + upper * scan.array[..., k + 1]
        array[..., i] = np.rint(plane) if array.dtype.kind in "iu" else plane
    note = f"{fault}; resampled to an even grid of {grid.shape[2]} slices, {grid.spacing[2]:.2f} mm apart"
    return replace(scan, array=array, grid=grid, header=None, notes=(note,))


def _normal(one: DicomSlice) -> Array:
    return np.cross(one.orientation[:3], one.orientation[3:])


def _positions(slices: Sequence[DicomSlice]) -> Array:
    """Positions along the normal of the first slice, mm."""
    return np.array([s.position @ _normal(slices[0]) for s in slices])


def _mean_gap(slices: Sequence[DicomSlice]) -> float:
    return float(np.linalg.norm(slices[-1].position - slices[0].position)) / (len(slices) - 1)


def _check_uniform(slices: list[DicomSlice], where: Path) -> None:
    first = slices[0]
    for other in slices[1:]:
        if other.size != first.size or not np.allclose(other.spacing, first.spacing, rtol=1e-3):
            raise GeometryError(
                f"{where}: slices with different grids: {_name(first)} has {first.size} pixels of "
                f"{first.spacing} mm, {_name(other)} {other.size} of {other.spacing}",
                path=where,
            )
        if not np.allclose(other.orientation, first.orientation, atol=1e-3):
            raise GeometryError(
                f"{where}: mixed orientations: {_name(first)} and {_name(other)} differ",
                hint="Remove localizers from the series.",
                path=where,
            )


def _check_alignment(slices: list[DicomSlice], positions: Array, normal: Array, where: Path) -> None:
    """Check that slices are stacked along their normal: not sheared (a tilted gantry), and none displaced."""
    drift = np.array([s.position - slices[0].position - (h - positions[0]) * normal
                      for s, h in zip(slices, positions, strict=True)])  # fmt: skip
    allowed = 0.1 * min(slices[0].spacing)
    middle = np.median(drift, axis=0)
    off = np.linalg.norm(drift - middle, axis=1)
    worst = int(np.argmax(off))
    if off[worst] <= allowed:
        return
    if np.median(off) > allowed / 2:
        step = drift[-1] / (positions[-1] - positions[0])
        angle = float(np.degrees(np.arctan(np.linalg.norm(step))))
        raise GeometryError(
            f"{where}: the slices are sheared by {angle:.1f}°, as by a tilted gantry",
            hint="Correct the tilt with a converter that resamples, such as dcm2niix, and use its NIfTI file.",
            path=where,
        )
    raise GeometryError(
        f"{where}: {_name(slices[worst])} is displaced by {off[worst]:.2f} mm from the others, at "
        f"{positions[worst]:.2f} mm along the normal",
        path=where,
    )


def _name(one: DicomSlice) -> str:
    if one.frame is not None:
        return f"frame {one.frame + 1}"
    return f"slice {one.number}" if one.number else one.path.name
