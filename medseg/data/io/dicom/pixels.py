"""Voxel values of DICOM images: stored pixels with the rescale of each slice or frame.

GDCM (through SimpleITK) decodes JPEG 2000, JPEG-LS, lossless JPEG and RLE.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

from medseg.data.io.dicom.geometry import DicomSlice
from medseg.geometry import Array

_RESCALE_KEYWORDS = (
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ModalityLUTSequence",
    "RescaleSlope", "RescaleIntercept",
)  # fmt: skip


def read_volume(slices: Sequence[DicomSlice]) -> Array:
    """Read the values (columns, rows, slices) of slices of equal size, in the given order.

    Returns:
        Integers of a type that fits all slices; float32 if a slice has fractions.
    """
    decoded = {path: read_stored(path) for path in dict.fromkeys(s.path for s in slices if s.frame is not None)}
    parts = [_read_alike(list(alike), decoded) for _, alike in groupby(slices, _read_key)]
    dtype = np.result_type(*{part.dtype for part in parts})
    dtype = np.dtype(np.float32) if dtype.kind == "f" else dtype
    volume = parts[0] if len(parts) == 1 else np.concatenate(parts, dtype=dtype, casting="unsafe")
    return volume.astype(dtype, copy=False).transpose(2, 1, 0)


def _read_key(one: DicomSlice) -> tuple[object, ...]:
    """Key of slices that can be read together: GDCM uses the data type that the first rescale requires."""
    return (one.path if one.frame is not None else None, one.rescale, one.stored)


def _read_alike(slices: Sequence[DicomSlice], decoded: Mapping[Path, Array]) -> Array:
    """Read the values (slices, rows, columns) of slices with equal rescale: files, or frames of ``decoded``."""
    first = slices[0]
    if first.frame is not None:
        frames = [one.frame for one in slices if one.frame is not None]
        return rescaled(decoded[first.path][np.array(frames)], *first.rescale)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(one.path) for one in slices])
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # suppress ITK's warning about uneven slices
    try:
        return sitk.GetArrayFromImage(reader.Execute())
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def rescaled(stored: Array, slope: float, intercept: float) -> Array:
    """Compute ``stored * slope + intercept``; integers have the smallest integer type that fits."""
    if slope == 1 and intercept == 0:
        return stored
    if not (slope.is_integer() and intercept.is_integer()):
        return stored.astype(np.float64) * slope + intercept
    low, high = sorted(int(v) * int(slope) + int(intercept) for v in (stored.min(), stored.max()))
    dtype = np.result_type(np.min_scalar_type(low), np.min_scalar_type(high), np.int16)
    if dtype.kind != "i":
        return stored.astype(np.float64) * slope + intercept
    return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)


def read_stored(path: Path) -> Array:
    """Read the stored pixels (frames, rows, columns) of a file without rescale, lookup table or inversion."""
    data: Any = pydicom.dcmread(path)
    if not data.file_meta.TransferSyntaxUID.is_compressed:
        pixels = np.asarray(data.pixel_array)
        return pixels[None] if pixels.ndim == 2 else pixels
    for keyword in _RESCALE_KEYWORDS:  # GDCM would apply those of one frame to all frames
        if keyword in data:
            delattr(data, keyword)
    byte = int(data.BitsAllocated) <= 8
    kind = (
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage
        if byte
        else MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    )
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    data.PhotometricInterpretation = "MONOCHROME2"
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        copy = Path(folder) / "frames.dcm"
        data.save_as(copy)
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(copy)))
    return pixels[None] if pixels.ndim == 2 else pixels


def read_projection(path: Path) -> Array:
    """Read the values (rows, columns) of a projection; high values are bright, also for MONOCHROME1."""
    header: Any = pydicom.dcmread(path, stop_before_pixels=True)
    if not header.get("ModalityLUTSequence"):
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))  # GDCM rescales and inverts
        return values.reshape(int(header.Rows), int(header.Columns))
    values = apply_modality_lut(read_stored(path)[0], header)
    if str(header.PhotometricInterpretation) == "MONOCHROME1":
        values = (2 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1 - values).astype(values.dtype)
    return values
