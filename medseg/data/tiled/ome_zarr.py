"""OME-Zarr 0.4 and 0.5 (``pip install medseg[zarr]``): https://ngff.openmicroscopy.org"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.tiled.tiled_image import PIECE_BYTES, TiledFile
from medseg.errors import DataError
from medseg.geometry import Array

ZARR_SUFFIXES = (".ome.zarr", ".zarr")
_UM = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}
_EDGE = 512
"""Chunks are read in groups of about this many pixels a side."""


def open_zarr(path: Path) -> TiledFile:
    """The multiscale picture of a store, or of its first series (bioformats2raw).

    Raises: DataError if zarr is not installed, or the store is damaged or no picture.
    """
    zarr = _zarr(path)
    try:
        group: Any = zarr.open_group(str(path), mode="r")
        if _multiscales(group) is None and "0" in group and not hasattr(group["0"], "shape"):
            group = group["0"]
        scales = _multiscales(group)
        if scales is None:
            raise DataError(f"{path}: a Zarr store without OME's multiscales; expected OME-Zarr 0.4 or 0.5")
        axes = "".join(str(axis["name"]).lower() for axis in scales["axes"])
        arrays = [group[entry["path"]] for entry in scales["datasets"]]
        um = _spacing(scales)
    except DataError:
        raise
    except Exception as error:  # a damaged store can make zarr raise anything
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read as OME-Zarr, incomplete or damaged ({reason}). Copy it again "
            "from its source."
        ) from error
    for array in arrays:
        _check(path, array, axes)
    levels = tuple((array.shape[axes.index("y")], array.shape[axes.index("x")]) for array in arrays)
    return TiledFile(levels, lambda i: ZarrLevel(arrays[i], axes), lambda: None, um, tiled_only=True)


class ZarrLevel:
    """One level: an array with axes y, x and perhaps c, and others of length 1."""

    palette: list[int] | None = None
    alpha: bool = False

    def __init__(self, array: Any, axes: str) -> None:
        self._array, self._axes = array, axes
        places = [axes.index(letter) for letter in "yx"]
        self.shape = (array.shape[places[0]], array.shape[places[1]])
        chunks = [min(array.chunks[i], array.shape[i]) for i in places]
        self.tile = (chunks[0] * max(1, _EDGE // chunks[0]), chunks[1] * max(1, _EDGE // chunks[1]))

    def decode(self, row: int, column: int) -> Array:
        """Piece (h, w, C)."""
        parts = {
            letter: slice(i * n, min((i + 1) * n, length))
            for letter, i, n, length in zip("yx", (row, column), self.tile, self.shape, strict=True)
        }
        chosen = tuple(parts.get(letter, slice(None) if letter == "c" else 0) for letter in self._axes)
        block = np.asarray(self._array[chosen])
        left = [letter for letter in self._axes if letter in "cyx"]
        block = block.transpose([left.index(letter) for letter in "yxc" if letter in left])
        return block if "c" in left else block[..., None]


def _multiscales(group: Any) -> Any:
    found = group.attrs.get("ome", group.attrs).get("multiscales")
    return found[0] if found else None


def _check(path: Path, array: Any, axes: str) -> None:
    shape = tuple(array.shape)
    others = {a: n for a, n in zip(axes, shape, strict=False) if a not in "cyx" and n > 1}
    if (
        len(axes) != len(shape)
        or len(set(axes)) != len(axes)
        or not {"y", "x"} <= set(axes)
        or others
        or 0 in shape
    ):
        raise DataError(
            f"{path}: axes {axes} of shape {shape} are no picture; expected y and x, perhaps c, others "
            "of length 1"
        )
    if math.prod(array.chunks) * array.dtype.itemsize > PIECE_BYTES:
        raise DataError(f"{path}: its chunks of {array.chunks} are too large to be read one by one; rechunk it")


def _spacing(scales: Any) -> tuple[float, float] | None:
    """Micrometres between rows and columns of the first level."""
    units = {str(axis["name"]).lower(): _UM.get(axis.get("unit")) for axis in scales["axes"]}
    steps = scales["datasets"][0].get("coordinateTransformations", [])
    scale = next((step["scale"] for step in steps if step.get("type") == "scale"), None)
    y, x = units.get("y"), units.get("x")
    if scale is None or y is None or x is None:
        return None
    names = list(units)
    return float(scale[names.index("y")]) * y, float(scale[names.index("x")]) * x


def _zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise DataError(f"{path}: OME-Zarr needs zarr: pip install 'medseg[zarr]'") from error
    return zarr
