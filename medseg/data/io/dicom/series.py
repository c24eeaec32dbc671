"""DICOM images: the slices of a series, or the frames of one file, as a volume with checked geometry.

A projection (CR, DX, MG) is read as a picture. pydicom reads the headers, GDCM (through SimpleITK) the pixels.
Names, ids and dates of patients are neither stored nor shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

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
"""Modalities whose single frames are projections: pictures without a position in space."""
_SLICE_CLASSES = (
    CTImageStorage, EnhancedCTImageStorage, MRImageStorage, EnhancedMRImageStorage,
    PositronEmissionTomographyImageStorage, EnhancedPETImageStorage,
)  # fmt: skip
_MOST_NAMED = 5
_NON_IMAGES = {
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
    """A folder with a DICOM series, or a file: an enhanced multi-frame image, a slice, or a projection.

    Args:
        uneven: whether unevenly spaced slices raise an error, or are resampled (linear, along the normal) to an
            even grid with their median distance, from the first to the last slice.
    """

    suffixes: tuple[str, ...] = (".dcm", ".dicom", ".ima")
    kind: Kind = "volume"
    output_suffix = ".nii.gz"

    def __init__(self, uneven: UnevenSlices = "refuse") -> None:
        self.uneven: UnevenSlices = uneven

    def read(self, path: Path) -> Scan:
        """Read a series as a volume, with its slices sorted along their normal, or a projection as a picture.

        The rescale of each slice or frame is applied. ``FOLDER#NUMBER`` selects one of several series.

        Raises:
            DataError: if there is no image, or there are several series.
            GeometryError: if slices are missing, duplicate, displaced or of different orientations.
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
        """List the files of a folder, or the file itself."""
        return _files(path)[0]

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write NIfTI on the grid of the series, or PNG for a projection."""
        if like.kind == "picture":
            PictureReader().write_label_map(path, label_map, like, colors)
        else:
            write_nifti(path, label_map, like)


def is_dicom_folder(folder: Path) -> bool:
    """Whether one of the first files of a folder is DICOM and not a projection (each of which is an image)."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    first = next((path for path in files[:5] if is_dicom_file(path)), None)
    return first is not None and read_projection_header(first) is None


def is_dicom_file(path: Path) -> bool:
    """Whether a file starts with the preamble of DICOM files (PS3.10, 7.1)."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_projection_header(path: Path) -> Any:
    """Read the header of a single gray projection (CR, DX, MG, …); None for all other files."""
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
    """Spacing of rows and columns, mm: in the body, on the detector, or on the scanned film; otherwise 1."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = header.get(keyword)
        if spacing and all(float(v) > 0 for v in spacing):
            return float(spacing[0]), float(spacing[1])
    return 1.0, 1.0


def series_slices(path: Path, uneven: UnevenSlices = "refuse") -> list[DicomSlice]:
    """Return the slices of the series at ``path``, sorted along their normal.

    Raises:
        DataError: as :meth:`DicomReader.read`.
        GeometryError: as :meth:`DicomReader.read`.
    """
    files, selected = _files(path)
    return sort_slices(select_series(read_series(files, path), selected, path), path, uneven)


def read_series(files: Sequence[Path], where: Path) -> dict[str, list[DicomSlice]]:
    """Read the headers of files and group their slices by series.

    Returns:
        Series number (or the end of the UID) → slices.

    Raises:
        DataError: if there is no image series, naming the kinds of object instead, or if files are damaged,
            which may be slices.
    """
    series: dict[str, list[DicomSlice]] = defaultdict(list)
    names: dict[str, str] = {}
    others: set[str] = set()
    damaged: list[Path] = []
    for file in files:
        try:
            header: Any = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        except InvalidDicomError:
            found = _without_file_header(file)
            others |= found
            damaged += [file] if not found and _is_named_as_dicom(file) else []
            continue
        except (OSError, EOFError, ValueError):
            damaged.append(file)
            continue
        if _is_cut(header):
            damaged.append(file)
            continue
        kind = str(header.get("Modality", "?"))
        framed = kind not in _NON_IMAGES and bool(header.get("PerFrameFunctionalGroupsSequence"))
        several = int(header.get("NumberOfFrames") or 1) > 1
        if not framed and (several or kind in _NON_IMAGES or "ImagePositionPatient" not in header):
            others.add(f"{kind} ({_reason(kind, several)})")
            continue
        uid = str(header.SeriesInstanceUID)
        names.setdefault(uid, str(header.get("SeriesNumber") or uid[-12:]))
        series[uid] += frame_slices(header, file) if framed else [_slice(header, file)]
    if series and damaged:
        raise _damaged_error(damaged, where)
    if not series:
        content = f"only {', '.join(sorted(others))}" if others else "no DICOM files"
        raise DataError(f"{where}: no DICOM image series: {content}", path=where)
    distinct = len(set(names.values())) == len(names)
    return {names[uid] if distinct else uid: slices for uid, slices in series.items()}


def _is_named_as_dicom(file: Path) -> bool:
    return file.name.lower().endswith(DicomReader.suffixes) and not file.name.startswith(".")


def _is_cut(header: Any) -> bool:
    """Whether a header ends before it says what the object is, or that of a slice before its pixels."""
    with disable_value_validation():  # the value itself may be cut
        kind = str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    last = "Rows" if kind in _SLICE_CLASSES else "SOPClassUID"
    return last not in header and kind != MediaStorageDirectoryStorage


def _damaged_error(files: Sequence[Path], where: Path) -> DataError:
    shown = ", ".join(file.name for file in files[:_MOST_NAMED]) + (" …" if len(files) > _MOST_NAMED else "")
    number = f"{len(files)} files" if len(files) > 1 else "a file"
    return DataError(
        f"{where}: {number} cannot be read, truncated or damaged, and may be slices: {shown}",
        hint="Copy the series again from its source.",
        path=files[0],
    )


def _without_file_header(file: Path) -> set[str]:
    """Describe a DICOM object that was stored without the header of a file; nothing for other files."""
    if not _is_named_as_dicom(file):
        return set()
    try:
        header: Any = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        kind = str(header.get("Modality") or "")
    except Exception:  # a text file may look like anything
        return set()
    if not kind or "SOPClassUID" not in header:
        return set()
    return {f"{kind} ({_NON_IMAGES.get(kind, 'without the header that DICOM files begin with')})"}


def _reason(kind: str, several: bool) -> str:
    """Why an object is not part of an image series."""
    if kind in _NON_IMAGES:
        return _NON_IMAGES[kind]
    if several:
        return "several frames without positions; convert it to single slices or NIfTI"
    return (
        "a projection, which is a separate image"
        if kind in _PROJECTIONS
        else "an object without a position in space"
    )


def select_series(series: dict[str, list[DicomSlice]], number: str | None, where: Path) -> list[DicomSlice]:
    """Return the series with a number, or the only one if the number is None.

    Raises:
        DataError: if the series does not exist, or there are several; lists the series.
    """
    listed = ", ".join(f"{name} ({len(slices)} slices)" for name, slices in sorted(series.items()))
    if number is not None and number not in series:
        raise DataError(f"{where}: no series {number}; the folder contains {listed}", path=where)
    if number is None and len(series) > 1:
        raise DataError(
            f"{where}: contains {len(series)} series: {listed}", hint="Select one as FOLDER#NUMBER.", path=where
        )
    return series[number] if number is not None else next(iter(series.values()))


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
    """The files of a folder or file, and the selector of ``FOLDER#SERIES``."""
    base, selector = split_selector(path)
    return (sorted(p for p in base.iterdir() if p.is_file()), selector) if base.is_dir() else ([base], selector)
