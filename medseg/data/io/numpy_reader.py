"""NumPy files: arrays without geometry; their spacing is 1."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from medseg.data.io.nifti import write_nifti
from medseg.data.io.path_selectors import split_selector
from medseg.data.scans import Kind, Scan, SingleFileReader
from medseg.errors import DataError
from medseg.geometry import Array, Grid


class NumpyReader(SingleFileReader):
    """``.npy`` files, and ``.npz`` files with one array (or ``FILE.npz#NAME``): (X, Y, Z) or (X, Y, Z, C).

    The axes are assumed to be RAS, because the files have no geometry. Pickled objects are rejected.
    """

    suffixes: tuple[str, ...] = (".npy", ".npz")
    kind: Kind = "volume"
    output_suffix = ".nii.gz"

    def read(self, path: Path) -> Scan:
        """Read voxels as (C, X, Y, Z)."""
        array = _load(*split_selector(path))
        if array.ndim not in (3, 4) or 0 in array.shape or array.dtype.kind not in "buif":
            raise DataError(
                f"{path}: {array.dtype} of shape {array.shape}, expected numbers (X, Y, Z) or (X, Y, Z, C)",
                path=path,
            )
        voxels = array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0)
        return Scan(voxels, Grid(voxels.shape[1:], np.eye(4)), "volume", path)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write NIfTI with spacing 1."""
        write_nifti(path, label_map, like)


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
