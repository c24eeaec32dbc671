"""NumPy files: arrays without geometry, spacing 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.data.io.nifti import write_nifti
from medseg.data.io.path_selectors import split_selector
from medseg.data.scans import Kind, Scan, SingleFileReader
from medseg.errors import DataError
from medseg.geometry import Array, Grid


class NumpyReader(SingleFileReader):
    """``.npy``, and ``.npz`` with one array (or ``FILE.npz#KEY``): (X, Y, Z), or (X, Y, Z, C) channels last.

    The axes are taken for RAS; a file says nothing of them. Pickled objects are refused.
    """

    suffixes: tuple[str, ...] = (".npy", ".npz")
    kind: Kind = "volume"
    output_suffix = ".nii.gz"

    def read(self, path: Path) -> Scan:
        """Read voxels as (C, X, Y, Z)."""
        array = _load(*split_selector(path))
        if array.ndim not in (3, 4) or 0 in array.shape or array.dtype.kind not in "buif":
            raise DataError(
                f"{path}: expected numbers (X, Y, Z), or (X, Y, Z, C); got {array.dtype} of shape {array.shape}"
            )
        voxels = array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0)
        return Scan(voxels, Grid(voxels.shape[1:], np.eye(4)), "volume", path)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write NIfTI with spacing 1."""
        write_nifti(path, label_map, like)


def _load(path: Path, key: str | None) -> Array:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        names = list(content)
        if key is None and len(names) != 1:
            raise DataError(
                f"{path}: holds {len(names)} arrays: {', '.join(names)}. Choose one as FILE.npz#NAME."
            )
        if key is not None and key not in names:
            raise DataError(f"{path}: holds no array {key!r}; arrays in it: {', '.join(names)}")
        return content[key if key is not None else names[0]]
