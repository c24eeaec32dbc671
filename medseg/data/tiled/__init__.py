"""Pictures larger than memory: read window by window, written row by row.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.data.tiled.formats import open_tiled
    from medseg.data.tiled.preprocessed_image import PreprocessedTiledImage
    from medseg.data.tiled.readers import TiledReader
    from medseg.data.tiled.tiff_writer import TiledTiffWriter
    from medseg.data.tiled.tiled_image import PyramidLevel, TiledFile, TiledImage

__all__ = [
    "PreprocessedTiledImage",
    "PyramidLevel",
    "TiledFile",
    "TiledImage",
    "TiledReader",
    "TiledTiffWriter",
    "open_tiled",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.data.tiled.formats": ("open_tiled",),
        "medseg.data.tiled.preprocessed_image": ("PreprocessedTiledImage",),
        "medseg.data.tiled.readers": ("TiledReader",),
        "medseg.data.tiled.tiff_writer": ("TiledTiffWriter",),
        "medseg.data.tiled.tiled_image": ("PyramidLevel", "TiledFile", "TiledImage"),
    },
)
