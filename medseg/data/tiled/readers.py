"""Readers of tiled formats, for pictures that are small enough to be read as a whole."""

from __future__ import annotations

from pathlib import Path

from medseg.data.io.pictures import PictureReader, scan_from_pixels
from medseg.data.scans import Scan
from medseg.data.tiled.formats import open_tiled
from medseg.data.tiled.ome_zarr import ZARR_SUFFIXES
from medseg.data.tiled.whole_slide import SLIDE_SUFFIXES
from medseg.errors import DataError

MAX_WHOLE_PIXELS = 64_000_000
"""Largest picture that is read as a whole, in pixels."""


class TiledReader(PictureReader):
    """Whole slides and OME-Zarr, read at their finest level; label maps are written as PNG."""

    suffixes: tuple[str, ...] = (*ZARR_SUFFIXES, *SLIDE_SUFFIXES)

    def read(self, path: Path) -> Scan:
        """Read (C, H, W).

        Raises:
            DataError: if the picture is too large to be read as a whole.
        """
        image = open_tiled(path, above=0)
        if image is None:
            raise DataError(f"{path}: neither a whole slide nor OME-Zarr", path=path)
        with image:
            h, w = image.shape
            if h * w > MAX_WHOLE_PIXELS:
                raise DataError(
                    f"{path}: {h}×{w} pixels are too many to be read as a whole",
                    hint="medseg infer reads them window by window; for training, crop smaller pictures.",
                    path=path,
                )
            return scan_from_pixels(image.read((slice(0, h), slice(0, w))), path, None)

    def files(self, path: Path) -> list[Path]:
        """List the file, all files of a Zarr store, or a MIRAX header and the files of its folder."""
        if path.is_dir():
            return sorted(p for p in path.rglob("*") if p.is_file())
        if path.suffix.lower() == ".mrxs":
            return [path, *sorted(p for p in path.with_suffix("").rglob("*") if p.is_file())]
        return [path]
