"""Which files are read window by window."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from medseg.data.tiled.ome_zarr import ZARR_SUFFIXES, open_zarr
from medseg.data.tiled.tiff import NotTileable, open_tiff
from medseg.data.tiled.tiled_image import TiledImage
from medseg.data.tiled.whole_slide import SLIDE_SUFFIXES, is_slide, open_slide
from medseg.errors import DataError

TIFF_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".btf")
DICOM_SUFFIXES = (".dcm", ".dicom")
MOST_PIXELS = 178_000_000
"""Of a picture that is read into memory all the same, as Pillow has it."""


def open_tiled(path: Path, *, above: float, level: int = 0) -> TiledImage | None:
    """A picture that is to be read window by window: of a format that is only read so, of more than ``above``
    pixels, or at another level of its pyramid than the finest. None for all else.

    Raises: DataError if the file is missing, truncated or damaged, has no such level, or is too large for
    the memory while it cannot be read in pieces.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(ZARR_SUFFIXES) and path.is_dir():
        return TiledImage(path, open_zarr(path), level)
    slide = path if path.is_file() and name.endswith(SLIDE_SUFFIXES) else find_dicom_slide(path)
    if slide is not None:
        return TiledImage(path, open_slide(slide), level)
    opened = open_tiff(path) if path.is_file() and name.endswith(TIFF_SUFFIXES) else None
    if opened is None:
        if level > 0:
            raise DataError(f"{path}: has no pyramid that medseg reads, so no level {level}")
        return None
    if not opened.tiled_only and level == 0 and math.prod(opened.levels[0]) <= above:
        opened.close()
        return None
    try:
        return TiledImage(path, opened, level)
    except NotTileable as reason:
        opened.close()
        return _otherwise(path, level, reason)
    except BaseException:
        opened.close()
        raise


def _otherwise(path: Path, level: int, reason: NotTileable) -> TiledImage | None:
    """A TIFF that tifffile has no codec for, by openslide; None if it is read into memory."""
    if reason.colors and is_slide(path):
        return TiledImage(path, open_slide(path), level)
    if reason.pixels <= MOST_PIXELS and level == 0 and not reason.tiled_only:
        return None
    raise DataError(
        f"{path}: cannot be read window by window, {reason}. Install medseg[wsi], or write it as tiled "
        "TIFF with deflate compression."
    ) from reason


def find_dicom_slide(path: Path) -> Path | None:
    """The file that openslide is to open for a whole slide in DICOM: itself, or one of its folder."""
    if path.is_file():
        files = [path] if path.name.lower().endswith(DICOM_SUFFIXES) else []
    else:
        files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))[:5]
    return next((file for file in files if _modality(file) == "SM"), None)


def _modality(file: Path) -> str | None:
    try:
        header: Any = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality"])
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return None
    return str(header.get("Modality"))
