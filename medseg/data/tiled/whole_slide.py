"""Whole-slide files, read with openslide (``pip install '.[wsi]'``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medseg.data.tiled.tiled_image import TiledFile
from medseg.errors import DataError
from medseg.geometry import Array

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi")
_EDGE = 1024
"""Edge length of a piece that is read at once, pixels."""


def open_slide(path: Path) -> TiledFile:
    """Open a slide in any format of openslide: 8-bit RGB; unscanned regions have the slide's background color.

    Raises:
        DataError: if openslide is not installed or cannot read the file.
    """
    openslide = _openslide(path)
    try:
        slide: Any = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise DataError(
            f"{path}: cannot be read as a whole slide, truncated or damaged ({error})",
            hint="Copy it again from its source, with all its files.",
            path=path,
        ) from error
    levels = tuple((h, w) for w, h in slide.level_dimensions)
    return TiledFile(
        levels, lambda level: SlideLevel(slide, level), slide.close, _read_spacing_um(slide), tiled_only=True
    )


def is_slide(path: Path) -> bool:
    """Whether openslide is installed and supports the format of the file."""
    try:
        import openslide
    except (ImportError, OSError):
        return False
    return openslide.OpenSlide.detect_format(path) is not None


class SlideLevel:
    """One level of a slide."""

    palette: list[int] | None = None
    alpha: bool = False

    def __init__(self, slide: Any, level: int) -> None:
        w, h = slide.level_dimensions[level]
        self.shape = (h, w)
        self.tile = (min(_EDGE, h), min(_EDGE, w))
        self._slide, self._level = slide, level
        self._background = "#" + slide.properties.get("openslide.background-color", "ffffff")

    def decode(self, row: int, column: int) -> Array:
        """Read a piece (h, w, 3)."""
        (h, w), (th, tw) = self.shape, self.tile
        y, x = row * th, column * tw
        down = self._slide.level_downsamples[self._level]
        size = min(tw, w - x), min(th, h - y)
        region = self._slide.read_region((round(x * down), round(y * down)), self._level, size)
        picture = Image.new("RGB", size, self._background)
        picture.paste(region, mask=region.getchannel("A"))
        return np.asarray(picture)


def _read_spacing_um(slide: Any) -> tuple[float, float] | None:
    values = [slide.properties.get(f"openslide.mpp-{axis}") for axis in "yx"]
    return None if None in values else (float(values[0]), float(values[1]))


def _openslide(path: Path) -> Any:
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise DataError(
            f"{path}: whole slides require openslide ({error})",
            hint="Run pip install '.[wsi]' in the folder of medseg.",
            path=path,
        ) from error
    return openslide
