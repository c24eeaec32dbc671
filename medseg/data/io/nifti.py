"""NIfTI volumes, read and written with nibabel."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medseg.data.scans import Kind, Scan, SingleFileReader
from medseg.errors import DataError, GeometryError
from medseg.geometry import Array, Grid, is_invertible

INTENT_LABEL = 1002
"""Intent code of label maps, NIFTI_INTENT_LABEL."""

_MAX_GZIP_RATIO = 1100
"""Largest ratio of uncompressed to compressed bytes of a gzip file (the limit of deflate is 1032)."""


class NiftiReader(SingleFileReader):
    """NIfTI-1 and NIfTI-2 volumes, plain or gzipped: 3D, or 4D with channels last.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.nii.gz"
        ...     nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_filename(path)
        ...     NiftiReader().read(path).array.shape
        (1, 3, 4, 5)
    """

    suffixes: tuple[str, ...] = (".nii.gz", ".nii")
    kind: Kind = "volume"
    output_suffix = ".nii.gz"

    def read(self, path: Path) -> Scan:
        """Read the scaled voxels as (C, X, Y, Z), and the affine that nibabel selects (sform before qform)."""
        opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
        with opener(path, "rb") as stream:
            size = stream.read(4)
            stream.seek(0)
            image_class: Any = nib.Nifti2Image if 540 in _both_orders(size) else nib.Nifti1Image
            image = image_class.from_stream(stream)
            if image.get_data_dtype().kind not in "iuf":
                raise DataError(f"{path}: voxels of type {image.get_data_dtype()}, expected numbers", path=path)
            shape = image.shape
            if len(shape) not in (3, 4) or any(n == 0 for n in shape):
                raise DataError(f"{path}: shape {shape}, expected 3 axes, or 4 with channels last", path=path)
            declared = math.prod(shape) * image.get_data_dtype().itemsize
            if declared > path.stat().st_size * (_MAX_GZIP_RATIO if opener is gzip.open else 1):
                raise DataError(
                    f"{path}: truncated or damaged: the header declares {declared} bytes of voxels, more than "
                    "the file can contain",
                    hint="Copy it again from its source.",
                    path=path,
                )
            affine = np.asarray(image.affine, dtype=np.float64)
            if not is_invertible(affine):
                raise GeometryError(
                    f"{path}: the affine is not invertible: {affine.tolist()}",
                    hint="Repair the header.",
                    path=path,
                )
            voxels = np.asanyarray(image.dataobj)
            while stream.read(1 << 20):  # gzip verifies its checksum at the end
                pass
        array = voxels[None] if voxels.ndim == 3 else np.moveaxis(voxels, 3, 0)
        return Scan(array, Grid(tuple(shape[:3]), affine), self.kind, path, image.header)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write NIfTI with the header of the input: affine, qform and sform codes and units are preserved.

        The intent code is that of label maps, so that viewers draw labels instead of gray values.
        """
        write_nifti(path, label_map, like, intent_code=INTENT_LABEL)


def _both_orders(four_bytes: bytes) -> tuple[int, int]:
    return int.from_bytes(four_bytes, "little"), int.from_bytes(four_bytes, "big")


def write_nifti(path: Path, volume: Array, like: Scan, *, intent_code: int = 0) -> None:
    """Write voxels on exactly the grid of ``like``.

    The header of a NIfTI scan is preserved: affine, qform and sform codes and units. For other scans, the
    affine is written as qform and sform.

    Args:
        path: the file to write.
        volume: (X, Y, Z) or (X, Y, Z, C).
        like: the scan that defines the grid.
        intent_code: what the voxels are, such as ``INTENT_LABEL``; 0 for nothing in particular.
    """
    if not isinstance(like.header, nib.Nifti1Header):
        image = nib.Nifti1Image(volume, like.grid.affine)
        image.set_qform(like.grid.affine, 1)
        image.set_sform(like.grid.affine, 1)
        image.header.set_xyzt_units("mm")
        image.header["intent_code"] = intent_code
        nib.save(image, path)
        return
    header = like.header.copy()
    header.set_data_dtype(volume.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = b"medseg"
    header["intent_code"] = intent_code
    header["intent_name"] = b""
    header["intent_p1"] = header["intent_p2"] = header["intent_p3"] = 0
    header.extensions.clear()
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    if volume.ndim == 3 and like.header["dim"][0] == 4 and like.header["dim"][4] == 1:
        volume = volume[..., None]  # restores the singleton axis of the input
    nib.save(image_class(volume, None, header), path)
