"""DICOM series: a folder of slices becomes one volume, after its geometry was checked.

pydicom reads the headers, GDCM (through SimpleITK) the pixels, which covers JPEG 2000 and RLE. No name, id
or date of a patient is kept or shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError

from medseg.data.itk import scan_of
from medseg.data.marks import split_mark
from medseg.data.nifti import save_nifti
from medseg.data.scans import Kind, Scan
from medseg.errors import DataError, GeometryError
from medseg.geometry import Array, Grid

Uneven = Literal["refuse", "resample"]
"""What to do with a series whose slices lie unevenly, or of which some are missing."""

_TAGS = ["SOPClassUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "NumberOfFrames",
         "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"]  # fmt: skip
_NO_IMAGES = {
    "RTSTRUCT": "contours of structures",
    "RTDOSE": "a dose distribution",
    "RTPLAN": "a treatment plan",
    "SEG": "a segmentation",
    "SR": "a report",
    "PR": "a presentation state",
    "KO": "a selection of key objects",
    "REG": "a registration",
    "SM": "a whole-slide picture",
}
_SAME_PLACE = 0.01
"""Share of the slice distance within which two slices lie at one place."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Slice:
    """One slice of a series: its file and where it lies (DICOM's LPS mm)."""

    path: Path
    number: int
    size: tuple[int, int]
    spacing: tuple[float, float]
    position: Array
    orientation: Array


class DicomReader:
    """A folder of one DICOM series, or one file that stands for a series of one slice.

    Slices that lie unevenly are refused, or resampled (linear, along the normal) onto an even grid of their
    usual distance, from the first slice to the last.
    """

    suffixes: tuple[str, ...] = (".dcm", ".dicom", ".ima")
    kind: Kind = "volume"
    output_suffix = ".nii.gz"

    def __init__(self, uneven: Uneven = "refuse") -> None:
        self.uneven: Uneven = uneven

    def read(self, path: Path) -> Scan:
        """Read a series, its slices sorted along their normal.

        A folder of several series is refused with a list of them; ``FOLDER#NUMBER`` chooses one.
        Raises: DataError for other objects than images; GeometryError naming the place where a slice is
        missing, doubled, shifted, tilted or turned.
        """
        slices = series_slices(path, self.uneven)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(s.path) for s in slices])
        fault = _unevenness(slices)
        image = _without_warnings(reader) if fault else reader.Execute()
        if len(slices) > 1:  # the distance of the slices, not their thickness
            image.SetSpacing((*image.GetSpacing()[:2], _mean_gap(slices)))
        scan = scan_of(image, path)
        return _evened(scan, slices, fault) if fault else scan

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colours: Array | None) -> None:
        """Write NIfTI on the series' grid."""
        save_nifti(path, label_map, like)


def holds_dicom(folder: Path) -> bool:
    """Whether one of the first files of a folder begins as DICOM files do."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return any(_is_dicom(path) for path in files[:5])


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def series_slices(path: Path, uneven: Uneven = "refuse") -> list[Slice]:
    """The slices of the series at ``path``, sorted along their normal; errors as :meth:`DicomReader.read`."""
    files, wanted = _files(path)
    return sort_slices(choose_series(find_series(files, path), wanted, path), path, uneven)


def grid_of(slices: Sequence[Slice]) -> Grid:
    """The grid (columns, rows, slices) that a series is read onto, without its pixels; an even one."""
    first = slices[0]
    count, gap = _even_slices(slices)
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing[0]
    affine[:3, 2] = _normal(first) * gap
    affine[:3, 3] = first.position
    return Grid((first.size[1], first.size[0], count), _LPS_TO_RAS @ affine)


def find_series(files: Sequence[Path], where: Path) -> dict[str, list[Slice]]:
    """The image series among files: series number (or the end of its UID) → slices.

    Raises: DataError if there is none, naming the kinds of object found.
    """
    series: dict[str, list[Slice]] = defaultdict(list)
    names: dict[str, str] = {}
    others: set[str] = set()
    for file in files:
        try:
            header: Any = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        except (InvalidDicomError, OSError, EOFError, ValueError):
            continue  # not DICOM: a text file, say
        kind = str(header.get("Modality", "?"))
        if kind in _NO_IMAGES or "ImagePositionPatient" not in header:
            others.add(f"{kind} ({_NO_IMAGES.get(kind, 'an object without a place in space')})")
            continue
        if int(header.get("NumberOfFrames") or 1) > 1:
            others.add(f"{kind} (a multi-frame object; convert it to single slices or NIfTI)")
            continue
        uid = str(header.SeriesInstanceUID)
        names.setdefault(uid, str(header.get("SeriesNumber") or uid[-12:]))
        series[uid].append(_slice(header, file))
    if not series:
        found = f"found {', '.join(sorted(others))}" if others else "no DICOM files"
        raise DataError(f"{where}: holds no DICOM image series: {found}")
    distinct = len(set(names.values())) == len(names)
    return {names[uid] if distinct else uid: slices for uid, slices in series.items()}


def choose_series(series: dict[str, list[Slice]], wanted: str | None, where: Path) -> list[Slice]:
    """The series asked for by its number, or the only one.

    Raises: DataError listing the series if the choice is open or wrong.
    """
    listed = ", ".join(f"{name} ({len(slices)} slices)" for name, slices in sorted(series.items()))
    if wanted is not None and wanted not in series:
        raise DataError(f"{where}: there is no series {wanted}; series here: {listed}")
    if wanted is None and len(series) > 1:
        raise DataError(f"{where}: holds {len(series)} series: {listed}. Choose one as FOLDER#NUMBER.")
    return series[wanted] if wanted is not None else next(iter(series.values()))


def sort_slices(slices: list[Slice], where: Path, uneven: Uneven = "refuse") -> list[Slice]:
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
    fault = _unevenness(slices)
    if fault and uneven == "refuse":
        raise GeometryError(
            f"{where}: {fault}. Fetch the series again in full, or let it be read onto an even grid: medseg "
            "infer --dicom-geometry resample."
        )
    return slices


def _unevenness(slices: Sequence[Slice]) -> str | None:
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


def _even_slices(slices: Sequence[Slice]) -> tuple[int, float]:
    """How many slices an even grid has, and their distance, mm; 1 for a single slice."""
    if len(slices) == 1:
        return 1, 1.0
    if not _unevenness(slices):
        return len(slices), _mean_gap(slices)
    heights = _heights(slices)
    steps = max(1, round(float((heights[-1] - heights[0]) / np.median(np.diff(heights)))))
    return steps + 1, float(heights[-1] - heights[0]) / steps


def _evened(scan: Scan, slices: Sequence[Slice], fault: str) -> Scan:
    """A scan (C, X, Y, slices) interpolated along its slices onto ``grid_of(slices)``."""
    grid = grid_of(slices)
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


def _without_warnings(reader: sitk.ImageSeriesReader) -> Any:
    """Read, without ITK's own warning that slices are missing."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return reader.Execute()
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _normal(one: Slice) -> Array:
    return np.cross(one.orientation[:3], one.orientation[3:])


def _heights(slices: Sequence[Slice]) -> Array:
    """mm along the first slice's normal."""
    return np.array([s.position @ _normal(slices[0]) for s in slices])


def _mean_gap(slices: Sequence[Slice]) -> float:
    return float(np.linalg.norm(slices[-1].position - slices[0].position)) / (len(slices) - 1)


def _refuse_mixtures(slices: list[Slice], where: Path) -> None:
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


def _refuse_shifts(slices: list[Slice], heights: Array, normal: Array, where: Path) -> None:
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


def _slice(header: Any, path: Path) -> Slice:
    rows, columns = header.get("PixelSpacing") or (1.0, 1.0)
    return Slice(
        path,
        int(header.get("InstanceNumber") or 0),
        (int(header.Rows), int(header.Columns)),
        (float(rows), float(columns)),
        np.array([float(v) for v in header.ImagePositionPatient]),
        np.array([float(v) for v in header.get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0)]),
    )


def _name(one: Slice) -> str:
    return f"slice {one.number}" if one.number else one.path.name


def _files(path: Path) -> tuple[list[Path], str | None]:
    """The files of a folder, a folder with ``#SERIES``, or one file."""
    base, wanted = split_mark(path)
    return (sorted(p for p in base.iterdir() if p.is_file()), wanted) if base.is_dir() else ([base], wanted)
