"""NumPy files: arrays without geometry; their spacing is 1. Two axes are a picture, three a volume."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from medseg.data.io.nifti import write_nifti
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.pictures import PictureReader, scan_from_pixels
from medseg.data.scans import Kind, Scan, SingleFileReader
from medseg.errors import DataError
from medseg.geometry import Array, Grid


class NumpyReader(SingleFileReader):
    """``.npy`` files, and ``.npz`` files with one array (or ``FILE.npz#NAME``).

    (H, W) is a picture, (X, Y, Z) or (X, Y, Z, C) a volume, whose axes are assumed to be RAS, because the files
    have no geometry. Pickled objects are rejected.
    """

    suffixes: tuple[str, ...] = (".npy", ".npz")
    kind: Kind = "volume"
    output_suffix = ".nii.gz"

    def read(self, path: Path) -> Scan:
        """Read voxels as (C, X, Y, Z), or pixels as (1, H, W)."""
        array = _load(*split_selector(path))
        if array.ndim == 2:
            return scan_from_pixels(array, path, None)
        if array.ndim not in (3, 4) or 0 in array.shape or array.dtype.kind not in "buif":
            raise DataError(
                f"{path}: {array.dtype} of shape {array.shape}, expected numbers (H, W), (X, Y, Z) or "
                "(X, Y, Z, C)",
                path=path,
            )
        voxels = array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0)
        return Scan(voxels, Grid(voxels.shape[1:], np.eye(4)), "volume", path)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write NIfTI with spacing 1, or PNG for a picture."""
        if like.kind == "picture":
            PictureReader().write_label_map(path, label_map, like, colors)
        else:
            write_nifti(path, label_map, like)


def is_picture_array(path: Path) -> bool:
    """Whether a NumPy file holds one picture, judged by the header; False for other and damaged files."""
    base, key = split_selector(path)
    try:
        if base.suffix.lower() == ".npy":
            with base.open("rb") as stream:
                return _count_axes(stream) == 2
        if base.suffix.lower() == ".npz":
            with zipfile.ZipFile(base) as archive, archive.open(_entry(archive, key)) as stream:
                return _count_axes(stream) == 2
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile):
        pass  # reading the file reports the error
    return False


def _entry(archive: zipfile.ZipFile, key: str | None) -> str:
    """Return the file of an array in an archive; of the first one without a key."""
    names = archive.namelist()
    if key is None:
        return names[0]
    return key if key in names else f"{key}.npy"


def _count_axes(stream: IO[bytes]) -> int:
    """Read the header of an array."""
    first = np.lib.format.read_magic(stream) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    return len(read(stream)[0])


def archive_names(path: Path) -> list[str]:
    """Return the names of the arrays of a ``.npz`` file; empty if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return []


def _load(path: Path, key: str | None) -> Array:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        names = list(content)
        if key is None and len(names) != 1:
            raise DataError(
                f"{path}: contains {len(names)} arrays: {', '.join(names)}",
                hint="Select one as FILE.npz#NAME.",
                path=path,
            )
        if key is not None and key not in names:
            raise DataError(f"{path}: no array {key!r}; it contains {', '.join(names)}", path=path)
        return content[key if key is not None else names[0]]
