"""OME-Zarr 0.4 and 0.5 (``pip install '.[zarr]'``): https://ngff.openmicroscopy.org"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.tiled.tiled_image import MAX_PIECE_BYTES, TiledFile
from medseg.errors import DataError
from medseg.geometry import Array

ZARR_SUFFIXES = (".ome.zarr", ".zarr")
_MICROMETERS = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}
_EDGE = 512
"""Approximate edge length of the groups of chunks that are read together, pixels."""


def open_zarr(path: Path) -> TiledFile:
    """Open the multiscale picture of a store, or of its first series (bioformats2raw).

    Raises:
        DataError: if zarr is not installed, or the store is damaged or not a picture.
    """
    zarr = _zarr(path)
    try:
        group: Any = zarr.open_group(str(path), mode="r")
        if _multiscales(group) is None and "0" in group and not hasattr(group["0"], "shape"):
            group = group["0"]
        scales = _multiscales(group)
        if scales is None:
            raise DataError(
                f"{path}: Zarr store without OME's multiscales, expected OME-Zarr 0.4 or 0.5", path=path
            )
        axes = "".join(str(axis["name"]).lower() for axis in scales["axes"])
        arrays = [group[entry["path"]] for entry in scales["datasets"]]
        um = _spacing(scales)
    except DataError:
        raise
    except Exception as error:  # a damaged store can make zarr raise anything
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read as OME-Zarr, incomplete or damaged ({reason})",
            hint="Copy it again from its source.",
            path=path,
        ) from error
    for array in arrays:
        _check(path, array, axes)
    levels = tuple((array.shape[axes.index("y")], array.shape[axes.index("x")]) for array in arrays)
    return TiledFile(levels, lambda i: ZarrLevel(arrays[i], axes), lambda: None, um, tiled_only=True)


class ZarrLevel:
    """One level: an array with the axes y, x and optionally c; other axes have length 1."""

    palette: list[int] | None = None
    alpha: bool = False

    def __init__(self, array: Any, axes: str) -> None:
        self._array, self._axes = array, axes
        y, x = (axes.index(letter) for letter in "yx")
        self.shape = (array.shape[y], array.shape[x])
        chunks = [min(array.chunks[i], array.shape[i]) for i in (y, x)]
        self.tile = (chunks[0] * max(1, _EDGE // chunks[0]), chunks[1] * max(1, _EDGE // chunks[1]))

    def decode(self, row: int, column: int) -> Array:
        """Read a piece (h, w, C)."""
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
    multiscales = group.attrs.get("ome", group.attrs).get("multiscales")
    return multiscales[0] if multiscales else None


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
            f"{path}: axes {axes} of shape {shape}, expected y and x, optionally c, and others of length 1",
            path=path,
        )
    if math.prod(array.chunks) * array.dtype.itemsize > MAX_PIECE_BYTES:
        raise DataError(
            f"{path}: chunks of {array.chunks} are too large to be read one by one",
            hint="Save it with smaller chunks.",
            path=path,
        )


def _spacing(scales: Any) -> tuple[float, float] | None:
    """Spacing of rows and columns of the first level, micrometers."""
    units = {str(axis["name"]).lower(): _MICROMETERS.get(axis.get("unit")) for axis in scales["axes"]}
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
        raise DataError(
            f"{path}: OME-Zarr requires the package zarr",
            hint="Run pip install '.[zarr]' in the folder of medseg.",
            path=path,
        ) from error
    return zarr
