"""NIfTI volumes, read and written by nibabel."""

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

_MOST_GZIPPED = 1100
"""Bytes that one byte of a gzip file can stand for, at most (deflate's limit is 1032)."""


class NiftiReader(SingleFileReader):
    """NIfTI-1 and -2 volumes, plain or gzipped: 3D, or 4D with channels last."""

    suffixes: tuple[str, ...] = (".nii.gz", ".nii")
    kind: Kind = "volume"
    output_suffix = ".nii.gz"

    def read(self, path: Path) -> Scan:
        """Read voxels with the header's scaling applied, and the affine nibabel chooses (sform first)."""
        opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
        with opener(path, "rb") as stream:
            size = stream.read(4)
            stream.seek(0)
            image_class: Any = nib.Nifti2Image if 540 in _both_orders(size) else nib.Nifti1Image
            image = image_class.from_stream(stream)
            if image.get_data_dtype().kind not in "iuf":
                raise DataError(f"{path}: voxels of type {image.get_data_dtype()} are no gray values")
            shape = image.shape
            if len(shape) not in (3, 4) or any(n == 0 for n in shape):
                raise DataError(
                    f"{path}: expected 3 axes, or 4 with channels last; the file's shape is {shape}"
                )
            claimed = math.prod(shape) * image.get_data_dtype().itemsize
            if claimed > path.stat().st_size * (_MOST_GZIPPED if opener is gzip.open else 1):
                raise DataError(
                    f"{path}: truncated or damaged: its header claims {claimed} bytes of voxels, more than the "
                    "file can hold. Copy it again from its source."
                )
            affine = np.asarray(image.affine, dtype=np.float64)
            if not is_invertible(affine):
                raise GeometryError(
                    f"{path}: the affine is not invertible: {affine.tolist()}. Repair the header."
                )
            voxels = np.asanyarray(image.dataobj)
            while stream.read(1 << 20):  # to the end, where gzip compares its check sum
                pass
        array = voxels[None] if voxels.ndim == 3 else np.moveaxis(voxels, 3, 0)
        return Scan(array, Grid(tuple(shape[:3]), affine), self.kind, path, image.header)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write with the input's header: affine, qform and sform codes and units stay as they are."""
        write_nifti(path, label_map, like)


def _both_orders(four_bytes: bytes) -> tuple[int, int]:
    return int.from_bytes(four_bytes, "little"), int.from_bytes(four_bytes, "big")


def write_nifti(path: Path, volume: Array, like: Scan) -> None:
    """Write (X, Y, Z) or (X, Y, Z, C) voxels on exactly the grid of ``like``.

    A NIfTI scan's header is kept: affine, qform and sform codes and units; another scan's affine becomes both.
    """
    if not isinstance(like.header, nib.Nifti1Header):
        image = nib.Nifti1Image(volume, like.grid.affine)
        image.set_qform(like.grid.affine, 1)
        image.set_sform(like.grid.affine, 1)
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
        return
    header = like.header.copy()
    header.set_data_dtype(volume.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = b"medseg"
    header["intent_code"] = 0
    header.extensions.clear()
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    if volume.ndim == 3 and like.header["dim"][0] == 4 and like.header["dim"][4] == 1:
        volume = volume[..., None]  # the input's singleton axis
    nib.save(image_class(volume, None, header), path)
