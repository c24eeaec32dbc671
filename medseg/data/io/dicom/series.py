"""DICOM images: slices, or the frames of one file, become one volume, after their geometry was checked.

A single projection (CR, DX, MG) becomes a picture.

pydicom reads the headers, GDCM (through SimpleITK) the pixels. No name, id or date of a patient is kept or
shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from medseg.data.io.dicom.geometry import (
    DicomSlice,
    UnevenSlices,
    describe_uneven_spacing,
    resample_to_even_grid,
    series_grid,
    sort_slices,
)
from medseg.data.io.dicom.multiframe import FRAME_TAGS, frame_slices
from medseg.data.io.dicom.pixels import read_projection, read_volume
from medseg.data.io.nifti import write_nifti
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.pictures import PictureReader
from medseg.data.scans import Kind, Scan
from medseg.errors import DataError
from medseg.geometry import Array, Grid

_STORED_TAGS = ["BitsAllocated", "BitsStored", "PixelRepresentation"]
_TAGS = ["SOPClassUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "NumberOfFrames",
         "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
         "RescaleSlope", "RescaleIntercept", *_STORED_TAGS, *FRAME_TAGS]  # fmt: skip
_PROJECTION_TAGS = ["Modality", "NumberOfFrames", "SamplesPerPixel", "ImagePositionPatient", "Rows", "Columns",
                    "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"]  # fmt: skip
_PROJECTIONS = ("CR", "DX", "MG", "RG", "IO", "PX", "XA", "RF")
"""Modalities whose single frames are projections: pictures, without a place in space."""
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


class DicomReader:
    """A folder of one DICOM series, or one file: an enhanced multi-frame image, a slice, or a projection.

    Slices that lie unevenly are refused, or resampled (linear, along the normal) onto an even grid of their
    usual distance, from the first slice to the last.
    """

    suffixes: tuple[str, ...] = (".dcm", ".dicom", ".ima")
    kind: Kind = "volume"
    output_suffix = ".nii.gz"

    def __init__(self, uneven: UnevenSlices = "refuse") -> None:
        self.uneven: UnevenSlices = uneven

    def read(self, path: Path) -> Scan:
        """Read a series, its slices sorted along their normal, as a volume; a projection as a picture.

        Each slice or frame has its own rescale. A folder of several series is refused with a list of them;
        ``FOLDER#NUMBER`` chooses one.
        Raises: DataError for other objects than images; GeometryError naming the place where a slice is
        missing, doubled, shifted, tilted or turned.
        """
        projection = read_projection_header(path)
        if projection is not None:
            grid = Grid.picture(int(projection.Rows), int(projection.Columns), _pixel_spacing(projection))
            return Scan(read_projection(path)[None], grid, "picture", path, modality=str(projection.Modality))
        slices = series_slices(path, self.uneven)
        volume = read_volume(slices)[None]
        scan = Scan(volume, series_grid(slices), "volume", path, modality=slices[0].modality)
        fault = describe_uneven_spacing(slices)
        return resample_to_even_grid(scan, slices, fault) if fault else scan

    def files(self, path: Path) -> list[Path]:
        """The files of a folder, or the file itself."""
        return _files(path)[0]

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write NIfTI on the series' grid, or PNG beside a projection."""
        if like.kind == "picture":
            PictureReader().write_label_map(path, label_map, like, colors)
        else:
            write_nifti(path, label_map, like)


def is_dicom_folder(folder: Path) -> bool:
    """Whether one of the first files of a folder begins as DICOM files do, and is no projection: those are
    pictures, an image each.
    """
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    first = next((path for path in files[:5] if _is_dicom(path)), None)
    return first is not None and read_projection_header(first) is None


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_projection_header(path: Path) -> Any:
    """The header of a file that is a single projection in gray (CR, DX, MG and the like); None for all else."""
    if not path.is_file():
        return None
    try:
        header: Any = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_PROJECTION_TAGS)
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return None
    single = int(header.get("NumberOfFrames") or 1) == 1 and int(header.get("SamplesPerPixel") or 1) == 1
    flat = str(header.get("Modality")) in _PROJECTIONS and "ImagePositionPatient" not in header
    return header if single and flat else None


def _pixel_spacing(header: Any) -> tuple[float, float]:
    """Between rows and between columns, mm: of the body, of the detector, or of the scanned film; else 1."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = header.get(keyword)
        if spacing and all(float(v) > 0 for v in spacing):
            return float(spacing[0]), float(spacing[1])
    return 1.0, 1.0


def series_slices(path: Path, uneven: UnevenSlices = "refuse") -> list[DicomSlice]:
    """The slices of the series at ``path``, sorted along their normal; errors as :meth:`DicomReader.read`."""
    files, wanted = _files(path)
    return sort_slices(choose_series(find_series(files, path), wanted, path), path, uneven)


def find_series(files: Sequence[Path], where: Path) -> dict[str, list[DicomSlice]]:
    """The image series among files: series number (or the end of its UID) → slices.

    Raises: DataError if there is none, naming the kinds of object found.
    """
    series: dict[str, list[DicomSlice]] = defaultdict(list)
    names: dict[str, str] = {}
    others: set[str] = set()
    for file in files:
        try:
            header: Any = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        except (InvalidDicomError, OSError, EOFError, ValueError):
            continue  # not DICOM: a text file, say
        kind = str(header.get("Modality", "?"))
        framed = kind not in _NO_IMAGES and bool(header.get("PerFrameFunctionalGroupsSequence"))
        several = int(header.get("NumberOfFrames") or 1) > 1
        if not framed and (several or kind in _NO_IMAGES or "ImagePositionPatient" not in header):
            others.add(f"{kind} ({_reason(kind, several)})")
            continue
        uid = str(header.SeriesInstanceUID)
        names.setdefault(uid, str(header.get("SeriesNumber") or uid[-12:]))
        series[uid] += frame_slices(header, file) if framed else [_slice(header, file)]
    if not series:
        found = f"found {', '.join(sorted(others))}" if others else "no DICOM files"
        raise DataError(f"{where}: holds no DICOM image series: {found}")
    distinct = len(set(names.values())) == len(names)
    return {names[uid] if distinct else uid: slices for uid, slices in series.items()}


def _reason(kind: str, several: bool) -> str:
    """Why an object is no image series."""
    if kind in _NO_IMAGES:
        return _NO_IMAGES[kind]
    if several:
        return "several frames that do not state where they lie; convert it to single slices or NIfTI"
    return (
        "a projection, which is an image of its own"
        if kind in _PROJECTIONS
        else "an object without a place in space"
    )


def choose_series(series: dict[str, list[DicomSlice]], wanted: str | None, where: Path) -> list[DicomSlice]:
    """The series asked for by its number, or the only one.

    Raises: DataError listing the series if the choice is open or wrong.
    """
    listed = ", ".join(f"{name} ({len(slices)} slices)" for name, slices in sorted(series.items()))
    if wanted is not None and wanted not in series:
        raise DataError(f"{where}: there is no series {wanted}; series here: {listed}")
    if wanted is None and len(series) > 1:
        raise DataError(f"{where}: holds {len(series)} series: {listed}. Choose one as FOLDER#NUMBER.")
    return series[wanted] if wanted is not None else next(iter(series.values()))


def _slice(header: Any, path: Path) -> DicomSlice:
    rows, columns = header.get("PixelSpacing") or (1.0, 1.0)
    return DicomSlice(
        path,
        int(header.get("InstanceNumber") or 0),
        (int(header.Rows), int(header.Columns)),
        (float(rows), float(columns)),
        np.array([float(v) for v in header.ImagePositionPatient]),
        np.array([float(v) for v in header.get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0)]),
        float(header.get("SliceThickness") or 1.0),
        rescale=(float(header.get("RescaleSlope") or 1.0), float(header.get("RescaleIntercept") or 0.0)),
        stored=tuple(int(header.get(keyword) or 0) for keyword in _STORED_TAGS),
        modality=str(header.get("Modality") or "") or None,
    )


def _files(path: Path) -> tuple[list[Path], str | None]:
    """The files of a folder, a folder with ``#SERIES``, or one file."""
    base, wanted = split_selector(path)
    return (sorted(p for p in base.iterdir() if p.is_file()), wanted) if base.is_dir() else ([base], wanted)
