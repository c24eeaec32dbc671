"""Opening of files that are read window by window."""

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
MAX_IN_MEMORY_PIXELS = 178_000_000
"""Largest picture that is read into memory if it cannot be read window by window (the limit of Pillow)."""


def open_tiled(path: Path, *, above: float, level: int = 0) -> TiledImage | None:
    """Open a picture that is read window by window.

    These are pictures in tiled formats, pictures with more than ``above`` pixels, and pictures read at another
    level of their pyramid than the finest.

    Args:
        path: the file.
        above: number of pixels above which TIFF pictures are read window by window.
        level: level of the pyramid; 0 is the finest.

    Returns:
        The picture, or None if the file is read into memory as a whole.

    Raises:
        DataError: if the file is missing, truncated or damaged, does not have this level, or is too large for
            memory and cannot be read in pieces.
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
            raise DataError(f"{path}: no level {level}: it has no pyramid in a supported format", path=path)
        return None
    if not opened.tiled_only and level == 0 and math.prod(opened.levels[0]) <= above:
        opened.close()
        return None
    try:
        return TiledImage(path, opened, level)
    except NotTileable as reason:
        opened.close()
        return _open_untileable(path, level, reason)
    except BaseException:  # also when interrupted: close the file
        opened.close()
        raise


def _open_untileable(path: Path, level: int, reason: NotTileable) -> TiledImage | None:
    """Open a TIFF that tifffile cannot decode in pieces with openslide; None if it is read into memory."""
    if reason.colors and is_slide(path):
        return TiledImage(path, open_slide(path), level)
    if reason.pixels <= MAX_IN_MEMORY_PIXELS and level == 0 and not reason.tiled_only:
        return None
    raise DataError(
        f"{path}: cannot be read window by window, {reason}",
        hint="Save it as tiled TIFF with deflate compression, or run pip install '.[wsi]' in medseg's folder.",
        path=path,
    ) from reason


def find_dicom_slide(path: Path) -> Path | None:
    """Return the file that openslide opens for a DICOM whole slide: a file or one in a folder, or None."""
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
