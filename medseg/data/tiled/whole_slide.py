"""Whole-slide files, through openslide (``pip install medseg[wsi]``)."""

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
"""Pixels of a square that is read at once."""


def open_slide(path: Path) -> TiledFile:
    """A slide of any format openslide knows: RGB, 8 bit; where nothing was scanned, its background's color.

    Raises: DataError if openslide is not installed or cannot read the file.
    """
    openslide = _openslide(path)
    try:
        slide: Any = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise DataError(
            f"{path}: cannot be read as a whole slide, truncated or damaged ({error}). Copy it again from its "
            "source, with all its files."
        ) from error
    levels = tuple((h, w) for w, h in slide.level_dimensions)
    return TiledFile(levels, lambda level: SlideLevel(slide, level), slide.close, _um(slide), tiled_only=True)


def is_slide(path: Path) -> bool:
    """Whether openslide is there and knows the file's format."""
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
        self._paper = "#" + slide.properties.get("openslide.background-color", "ffffff")

    def decode(self, row: int, column: int) -> Array:
        """Piece (h, w, 3)."""
        (h, w), (th, tw) = self.shape, self.tile
        y, x = row * th, column * tw
        down = self._slide.level_downsamples[self._level]
        size = min(tw, w - x), min(th, h - y)
        region = self._slide.read_region((round(x * down), round(y * down)), self._level, size)
        picture = Image.new("RGB", size, self._paper)
        picture.paste(region, mask=region.getchannel("A"))
        return np.asarray(picture)


def _um(slide: Any) -> tuple[float, float] | None:
    values = [slide.properties.get(f"openslide.mpp-{axis}") for axis in "yx"]
    return None if None in values else (float(values[0]), float(values[1]))


def _openslide(path: Path) -> Any:
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise DataError(f"{path}: whole slides need openslide: pip install 'medseg[wsi]' ({error})") from error
    return openslide
