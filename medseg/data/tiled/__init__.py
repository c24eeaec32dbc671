"""Pictures larger than memory: read window by window, written row by row.

The names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.data.tiled.formats import open_tiled
    from medseg.data.tiled.preprocessed_image import PreprocessedTiledImage
    from medseg.data.tiled.readers import TiledReader
    from medseg.data.tiled.tiff_writer import TiledTiffWriter
    from medseg.data.tiled.tiled_image import PyramidLevel, TiledFile, TiledImage

_HOME = {
    "PreprocessedTiledImage": "medseg.data.tiled.preprocessed_image",
    "PyramidLevel": "medseg.data.tiled.tiled_image",
    "TiledFile": "medseg.data.tiled.tiled_image",
    "TiledImage": "medseg.data.tiled.tiled_image",
    "TiledReader": "medseg.data.tiled.readers",
    "TiledTiffWriter": "medseg.data.tiled.tiff_writer",
    "open_tiled": "medseg.data.tiled.formats",
}

__all__ = [
    "PreprocessedTiledImage",
    "PyramidLevel",
    "TiledFile",
    "TiledImage",
    "TiledReader",
    "TiledTiffWriter",
    "open_tiled",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'medseg.data.tiled' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
