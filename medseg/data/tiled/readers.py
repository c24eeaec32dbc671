"""Readers of the formats that are made for large pictures: small ones are read whole."""

from __future__ import annotations

from pathlib import Path

from medseg.data.io.pictures import PictureReader, scan_from_pixels
from medseg.data.scans import Scan
from medseg.data.tiled.formats import open_tiled
from medseg.data.tiled.ome_zarr import ZARR_SUFFIXES
from medseg.data.tiled.whole_slide import SLIDE_SUFFIXES
from medseg.errors import DataError

WHOLE = 64_000_000
"""Pixels up to which a picture is read whole."""


class TiledReader(PictureReader):
    """Whole slides and OME-Zarr: pictures at their finest level; label maps beside them are PNG."""

    suffixes: tuple[str, ...] = (*ZARR_SUFFIXES, *SLIDE_SUFFIXES)

    def read(self, path: Path) -> Scan:
        """Read (C, H, W). Raises: DataError if it is too large for that."""
        image = open_tiled(path, above=0)
        if image is None:
            raise DataError(f"{path}: no whole slide and no OME-Zarr")
        with image:
            h, w = image.shape
            if h * w > WHOLE:
                raise DataError(
                    f"{path}: {h}×{w} pixels are too many to be read whole. medseg infer reads them window by "
                    "window; for training, cut out pictures."
                )
            return scan_from_pixels(image.read((slice(0, h), slice(0, w))), path, None)

    def files(self, path: Path) -> list[Path]:
        """The file, all files of a Zarr store, or a MIRAX header with the files of its folder."""
        if path.is_dir():
            return sorted(p for p in path.rglob("*") if p.is_file())
        if path.suffix.lower() == ".mrxs":
            return [path, *sorted(p for p in path.with_suffix("").rglob("*") if p.is_file())]
        return [path]
