"""Where the slices of a DICOM series lie, and the one volume that they make."""

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
"""What to do with a series whose slices lie unevenly, or of which some are missing."""

_SAME_PLACE = 0.01
"""Share of the slice distance within which two slices lie at one place."""


@dataclass(frozen=True)
class DicomSlice:
    """One slice of a series: a file, or a frame of one, and where it lies (DICOM's LPS mm).

    Attributes:
        path: its file.
        number: as the file counts it.
        size: rows and columns.
        spacing: between rows and between columns, mm.
        position, orientation: of the first pixel (3,); of rows and columns (6,).
        thickness: mm.
        frame: its index in a multi-frame file; none in a file of its own.
        rescale: slope and intercept of the stored values.
        stored: bits allocated and stored, and whether with sign (1): the type of the stored values.
        modality: in DICOM's terms.
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
    """The grid (columns, rows, slices) that a series is read onto, without its pixels; an even one."""
    first = slices[0]
    count, gap = _even_slices(slices)
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing[0]
    affine[:3, 2] = _normal(first) * gap
    affine[:3, 3] = first.position
    return Grid((first.size[1], first.size[0], count), LPS_TO_RAS @ affine)


def sort_slices(slices: list[DicomSlice], where: Path, uneven: UnevenSlices = "refuse") -> list[DicomSlice]:
    """Sort slices along their normal and refuse a series that is no regular volume.

    Slices that lie unevenly are let pass where they are to be resampled.

    Raises: GeometryError naming the place of the fault.
    """
    first = slices[0]
    _refuse_mixtures(slices, where)
    normal = _normal(first)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    if len(slices) == 1:
        return slices
    heights = _heights(slices)
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    for i in np.flatnonzero(gaps < _SAME_PLACE * max(usual, 1e-3)):
        raise GeometryError(
            f"{where}: two slices lie at the same place, {heights[i]:.2f} mm along the normal: "
            f"{_name(slices[i])} and {_name(slices[i + 1])}. Remove the double."
        )
    _refuse_shifts(slices, heights, normal, where)
    fault = describe_uneven_spacing(slices)
    if fault and uneven == "refuse":
        raise GeometryError(
            f"{where}: {fault}. Fetch the series again in full, or let it be read onto an even grid: medseg "
            "infer --dicom-geometry resample."
        )
    return slices


def describe_uneven_spacing(slices: Sequence[DicomSlice]) -> str | None:
    """Where sorted slices are not evenly apart, the worst place; none if they are."""
    if len(slices) < 3:
        return None
    heights = _heights(slices)
    gaps = np.diff(heights)
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
        f"{what} between {_name(slices[i])} and {_name(slices[i + 1])}, at {heights[i]:.2f} to "
        f"{heights[i + 1]:.2f} mm along the normal: a gap of {gaps[i]:.2f} mm, elsewhere {usual:.2f} mm"
    )


def _even_slices(slices: Sequence[DicomSlice]) -> tuple[int, float]:
    """How many slices an even grid has, and their distance, mm; the thickness of a single slice."""
    if len(slices) == 1:
        return 1, slices[0].thickness
    if not describe_uneven_spacing(slices):
        return len(slices), _mean_gap(slices)
    heights = _heights(slices)
    steps = max(1, round(float((heights[-1] - heights[0]) / np.median(np.diff(heights)))))
    return steps + 1, float(heights[-1] - heights[0]) / steps


def resample_to_even_grid(scan: Scan, slices: Sequence[DicomSlice], fault: str) -> Scan:
    """A scan (C, X, Y, slices) interpolated along its slices onto ``series_grid(slices)``."""
    grid = series_grid(slices)
    heights = _heights(slices)
    wanted = np.linspace(heights[0], heights[-1], grid.shape[2])
    below = np.clip(np.searchsorted(heights, wanted, side="right") - 1, 0, len(slices) - 2)
    share = (wanted - heights[below]) / (heights[below + 1] - heights[below])
    array = np.empty((*scan.array.shape[:3], len(wanted)), scan.array.dtype)
    for i, (k, upper) in enumerate(zip(below, share, strict=True)):
        plane = (1 - upper) * scan.array[..., k] + upper * scan.array[..., k + 1]
        array[..., i] = np.rint(plane) if array.dtype.kind in "iu" else plane
    note = f"{fault}; read onto an even grid of {grid.shape[2]} slices, {grid.spacing[2]:.2f} mm apart"
    return replace(scan, array=array, grid=grid, header=None, notes=(note,))


def _normal(one: DicomSlice) -> Array:
    return np.cross(one.orientation[:3], one.orientation[3:])


def _heights(slices: Sequence[DicomSlice]) -> Array:
    """mm along the first slice's normal."""
    return np.array([s.position @ _normal(slices[0]) for s in slices])


def _mean_gap(slices: Sequence[DicomSlice]) -> float:
    return float(np.linalg.norm(slices[-1].position - slices[0].position)) / (len(slices) - 1)


def _refuse_mixtures(slices: list[DicomSlice], where: Path) -> None:
    first = slices[0]
    for other in slices[1:]:
        if other.size != first.size or not np.allclose(other.spacing, first.spacing, rtol=1e-3):
            raise GeometryError(
                f"{where}: slices of different grids: {_name(first)} has {first.size} pixels of "
                f"{first.spacing} mm, {_name(other)} {other.size} of {other.spacing}"
            )
        if not np.allclose(other.orientation, first.orientation, atol=1e-3):
            raise GeometryError(
                f"{where}: mixed orientations: {_name(first)} and {_name(other)} are turned against each "
                "other (is a localiser among them?)"
            )


def _refuse_shifts(slices: list[DicomSlice], heights: Array, normal: Array, where: Path) -> None:
    """Slices must lie above each other: neither all sheared (a tilted gantry) nor one out of line."""
    drift = np.array([s.position - slices[0].position - (h - heights[0]) * normal
                      for s, h in zip(slices, heights, strict=True)])  # fmt: skip
    allowed = 0.1 * min(slices[0].spacing)
    middle = np.median(drift, axis=0)
    off = np.linalg.norm(drift - middle, axis=1)
    worst = int(np.argmax(off))
    if off[worst] <= allowed:
        return
    if np.median(off) > allowed / 2:
        step = drift[-1] / (heights[-1] - heights[0])
        angle = float(np.degrees(np.arctan(np.linalg.norm(step))))
        raise GeometryError(
            f"{where}: the slices are sheared by {angle:.1f}°, as by a tilted gantry. Correct the tilt with a "
            "converter that resamples (such as dcm2niix) and read its NIfTI."
        )
    raise GeometryError(
        f"{where}: {_name(slices[worst])} lies {off[worst]:.2f} mm beside the others, at "
        f"{heights[worst]:.2f} mm along the normal"
    )


def _name(one: DicomSlice) -> str:
    if one.frame is not None:
        return f"frame {one.frame + 1}"
    return f"slice {one.number}" if one.number else one.path.name
