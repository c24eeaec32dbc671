"""Label maps and images that clients send: checked before they are read, as they may be hostile."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from PIL import Image
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medseg.data.io.readers import read_scan
from medseg.data.scans import Scan, align_to_grid, as_label_map
from medseg.errors import DataError, GeometryError
from medseg.geometry import LPS_TO_RAS, Array, Grid
from medseg.server.errors import RefusedError

SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".png", ".tif", ".tiff", ".bin")
"""Suffixes of the files that clients may send."""
_IMAGE_SUFFIXES = (*SUFFIXES[:-1], ".jpg", ".jpeg", ".bmp", ".dcm")
_HEAD = 1 << 16
_LARGEST_VOXEL = 8
_DATA_FILE = re.compile(rb"data\s*file\s*:|elementdatafile\s*=\s*(?!local\b)", re.IGNORECASE)


def suffix_of(name: str, *, image: bool = False) -> str:
    """Return the suffix of a client's file; nothing else of its name is used.

    Raises:
        RefusedError: files of this kind are not accepted.
    """
    accepted = _IMAGE_SUFFIXES if image else SUFFIXES
    found = next((suffix for suffix in accepted if name.lower().endswith(suffix)), None)
    if found is None:
        raise RefusedError(f"files of this kind are not accepted; expected one of {', '.join(accepted)}")
    return found


def as_integers(label_map: Array, shape: tuple[int, ...]) -> Array:
    """Return a label map (*S) as integers.

    Raises:
        DataError: it has another shape or type.
    """
    values = np.asarray(label_map)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.shape != shape or not np.issubdtype(values.dtype, np.integer):
        raise DataError(
            f"the label map has the shape {values.shape} and the type {values.dtype}, expected integers of the "
            f"shape {shape}"
        )
    return values


def read_label_map(path: Path, like: Scan) -> Array:
    """Read a client's label map on the grid of an image.

    The shape in the header is compared before voxels are read, and headers that name other files are refused.

    Returns:
        (*S) integers.

    Raises:
        RefusedError: the file is not acceptable.
        GeometryError: it lies on another grid.
        DataError: it cannot be read as a label map.
    """
    if path.suffix == ".bin":
        return _raw(path, like)
    check_file(path)
    shape = header_shape(path)
    if sorted(shape) != sorted(_squeezed(like.grid.shape)):
        raise GeometryError(
            f"the label map has the shape {shape}, the image {like.grid.shape}: they must lie on the same grid"
        )
    label = read_scan(path)
    if label.kind == "volume" and like.kind == "picture":
        return _plane(label, like)
    if like.kind == "volume" and label.kind == "picture":
        raise GeometryError("the label map is a picture, the image a volume")
    return as_label_map(align_to_grid(label, like.grid))


def check_file(path: Path) -> None:
    """Check that a file has no header that makes a reader open other files.

    Raises:
        RefusedError: it has.
    """
    if not path.name.lower().endswith((".nrrd", ".mha")):
        return
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    ends = b"\n\n" in head or b"\r\n\r\n" in head or path.suffix == ".mha"
    if _DATA_FILE.search(head) or not ends:
        raise RefusedError("the file's header names another file, or is too long")


def header_shape(path: Path) -> tuple[int, ...]:
    """Return the shape in a file's header, without axes of length 1; voxels are not read.

    Raises:
        RefusedError: the header cannot be read.
    """
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return _squeezed(_nifti_shape(path))
        if path.name.lower().endswith((".nrrd", ".mha")):
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            return _squeezed(reader.GetSize())
        with Image.open(path) as picture:
            return _squeezed((picture.height, picture.width))
    except RefusedError:
        raise
    except Exception as error:  # a hostile file can make a parser raise anything
        raise RefusedError(f"the file is truncated or damaged ({type(error).__name__})") from error


def _nifti_shape(path: Path) -> tuple[int, ...]:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as stream:
        head = stream.read(540)
    second = int.from_bytes(head[:4], "little") == 540 or int.from_bytes(head[:4], "big") == 540
    header = nib.Nifti2Header(head[:540]) if second else nib.Nifti1Header(head[:348])
    shape = header.get_data_shape()
    if any(n < 1 for n in shape):
        raise RefusedError("the file's header declares an empty volume")
    return tuple(int(n) for n in shape)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop axes of length 1 at the end of a shape with more than two axes, and in the middle of none."""
    return tuple(int(n) for n in shape if n != 1)


def _plane(label: Scan, like: Scan) -> Array:
    """Return the picture (H, W) of a volume (W, H, 1), as viewers save it: on the grid that they were given.

    A volume without directions is taken as it is.
    """
    height, width = like.grid.shape
    rows, columns = like.grid.spacing
    grid = Grid((width, height, 1), LPS_TO_RAS @ np.diag([columns, rows, 1.0, 1.0]))
    header = label.header
    undirected = isinstance(header, nib.Nifti1Header) and not header["qform_code"] and not header["sform_code"]
    if undirected and label.grid.shape == grid.shape:
        label = replace(label, grid=grid)
    volume = as_label_map(align_to_grid(label, grid))
    return np.ascontiguousarray(volume[:, :, 0].T)


def _raw(path: Path, like: Scan) -> Array:
    """Read the bytes of a label map that has the order of a viewer: x fastest, slices ascending."""
    from medseg.server.models.viewer_order import from_viewer

    values = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if values.size != int(np.prod(like.grid.shape)):
        raise GeometryError(f"the label map has {values.size} voxels, the image {np.prod(like.grid.shape)}")
    return from_viewer(values, like)


def declared_bytes(files: Sequence[Path]) -> int:
    """Return the bytes that the voxels of a client's image take, by the headers of its files.

    Raises:
        RefusedError: a header cannot be read, or names another file.
    """
    total = 0
    for path in files:
        check_file(path)
        if path.suffix == ".dcm":
            total += _dicom_bytes(path)
        else:
            total += int(np.prod([float(n) for n in header_shape(path)])) * _LARGEST_VOXEL
    return total


def check_not_deflated(path: Path) -> None:
    """Check that a DICOM file is not deflated: reading its header alone could take all memory.

    Raises:
        RefusedError: it is.
    """
    try:
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
    except Exception:  # no DICOM: whoever reads it says so
        return
    if syntax == DeflatedExplicitVRLittleEndian:
        raise RefusedError("the file is deflated; expected DICOM of another transfer syntax")


def _dicom_bytes(path: Path) -> int:
    tags = ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"]
    check_not_deflated(path)
    try:
        header: Any = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        numbers = [int(header.get(tag) or 1) for tag in tags]
    except Exception as error:  # a hostile file can make a parser raise anything
        raise RefusedError("the file is no DICOM") from error
    return int(np.prod([float(max(n, 1)) for n in numbers])) * _LARGEST_VOXEL


def check_image(path: Path) -> Scan:
    """Read an image that a client sends, whose size was checked (:func:`declared_bytes`).

    Raises:
        RefusedError: the file is not acceptable.
        DataError: it cannot be read.
    """
    if path.is_file():
        check_file(path)
    scan = read_scan(path)
    if not np.issubdtype(scan.array.dtype, np.number):
        raise DataError("the image does not hold numbers")
    return scan
