"""Tiled TIFF and OME-TIFF, read piece by piece."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from medseg.data.io.pictures import has_alpha
from medseg.data.tiled.tiled_image import MAX_PIECE_BYTES, PyramidLevel, TiledFile
from medseg.errors import DataError
from medseg.geometry import Array

_PICTURES = ("YX", "YXS", "SYX", "CYX")
"""Axes of TIFF pictures; others are volumes."""

_UM_PER_UNIT = {2: 25400.0, 3: 10000.0}
_UM_PER_OME_UNIT = {"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
_RAW_ROWS = 64


class NotTileable(Exception):  # noqa: N818 - not an error: another reader may support the file
    """A picture cannot be read in pieces, for the reason in its text.

    Attributes:
        pixels: number of pixels.
        colors: whether the pixels are 8-bit colors, which openslide supports.
        tiled_only: whether no other reader supports the file.
    """

    def __init__(self, reason: str, page: Any, tiled_only: bool) -> None:
        super().__init__(reason)
        self.pixels = int(page.imagelength) * int(page.imagewidth)
        self.colors = page.dtype == np.uint8 and page.samplesperpixel in (3, 4)
        self.tiled_only = tiled_only


def open_tiff(path: Path) -> TiledFile | None:
    """Open a TIFF picture.

    Returns:
        The picture, or None for volumes and for damaged files, whose error another reader reports. Its levels
        raise DataError if the file is truncated or damaged, and NotTileable if it cannot be read in pieces.

    Raises:
        DataError: if the file is damaged and too large for another reader.
    """
    try:
        tiff = tifffile.TiffFile(path)
    except Exception as error:  # a damaged file can make a parser raise anything
        return _check_size(path, error)
    try:
        opened = _opened(path, tiff)
    except Exception as error:  # as above: pages are parsed when they are used
        tiff.close()
        return _check_size(path, error)
    if opened is None:
        tiff.close()
    return opened


def _check_size(path: Path, error: Exception) -> None:
    """Raise a DataError for a damaged file that is too large for another reader."""
    if path.stat().st_size > MAX_PIECE_BYTES:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200]
    return DataError(
        f"{path}: cannot be read, truncated or damaged ({reason})",
        hint="Copy it again from its source.",
        path=path,
    )


def _opened(path: Path, tiff: tifffile.TiffFile) -> TiledFile | None:
    series: Any = tiff.series[0] if tiff.series else None
    if series is None or series.axes not in _PICTURES or not all(series.shape):
        return None
    pages = [[_page(p) for p in level.pages] for level in series.levels if level.axes == series.axes]
    levels = tuple((int(p[0].imagelength), int(p[0].imagewidth)) for p in pages)
    lock = Lock()

    def tiles(level: int) -> PyramidLevel:
        try:
            return _tiles(path, tiff, pages[level], lock)
        except (DataError, NotTileable):
            raise
        except Exception as error:  # a damaged file can make a parser raise anything
            raise _damaged(path, error) from error

    spacing = _read_ome_spacing_um(tiff.ome_metadata or "") or _read_spacing_um(pages[0][0])
    return TiledFile(levels, tiles, tiff.close, spacing, tiled_only=len(tiff.pages) > 1)


def _tiles(path: Path, tiff: tifffile.TiffFile, pages: Sequence[Any], lock: Lock) -> PyramidLevel:
    page = pages[0]
    _check(path, tiff, pages)
    raw = len(pages) == 1 and not page.is_tiled and page.is_contiguous and page.planarconfig == 1
    if raw and page.bitspersample in (8, 16, 32, 64):
        return UncompressedTiffLevel(tiff, page, lock)
    return TiffLevel(tiff, pages, lock)


def _page(page: Any) -> Any:
    return page.aspage() if isinstance(page, tifffile.TiffFrame) else page


class TiffLevel:
    """A level stored in tiles or strips; its channels are stored per pixel, in planes, or in pages."""

    def __init__(self, tiff: tifffile.TiffFile, pages: Sequence[Any], lock: Lock) -> None:
        page = pages[0]
        self.shape = (int(page.imagelength), int(page.imagewidth))
        self.tile = _piece(page)
        self.palette, self.alpha = _palette(page), has_alpha(page)
        self._tiff, self._pages, self._lock = tiff, pages, lock
        self._planes = page.samplesperpixel if page.planarconfig == 2 else 1

    def decode(self, row: int, column: int) -> Array:
        """Read a piece (h, w, S)."""
        (h, w), (th, tw) = self.shape, self.tile
        across = math.ceil(w / tw)
        index, plane = row * across + column, math.ceil(h / th) * across
        parts = [self._segment(p, k * plane + index) for p in self._pages for k in range(self._planes)]
        block = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        return block[: h - row * th, : w - column * tw]

    def _segment(self, page: Any, index: int) -> Array:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if count == 0:  # not written: constant
            samples = page.samplesperpixel if page.planarconfig == 1 else 1
            return np.full((*self.tile, samples), page.nodata, page.dtype)
        with self._lock:
            data = _bytes(self._tiff, offset, count)
        return page.decode(data, index)[0][0]


class UncompressedTiffLevel:
    """A level stored uncompressed, row by row."""

    def __init__(self, tiff: tifffile.TiffFile, page: Any, lock: Lock) -> None:
        self.shape = (int(page.imagelength), int(page.imagewidth))
        self.tile = (min(_RAW_ROWS, self.shape[0]), self.shape[1])
        self.palette, self.alpha = _palette(page), has_alpha(page)
        self._tiff, self._lock = tiff, lock
        self._offset, self._samples = page.dataoffsets[0], page.samplesperpixel
        self._dtype = page.dtype.newbyteorder(tiff.byteorder)

    def decode(self, row: int, column: int) -> Array:
        """Read rows (h, W, S)."""
        first, last = row * self.tile[0], min((row + 1) * self.tile[0], self.shape[0])
        line = self.shape[1] * self._samples * self._dtype.itemsize
        with self._lock:
            data = _bytes(self._tiff, self._offset + first * line, (last - first) * line)
        block = np.frombuffer(data, self._dtype).reshape(last - first, self.shape[1], self._samples)
        return block.astype(self._dtype.newbyteorder("="))


def _bytes(tiff: tifffile.TiffFile, offset: int, count: int) -> bytes:
    tiff.filehandle.seek(offset)
    data = tiff.filehandle.read(count)
    if len(data) != count:
        raise ValueError(f"the file is {count - len(data)} bytes too short")
    return data


def _piece(page: Any) -> tuple[int, int]:
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return int(page.rowsperstrip), int(page.imagewidth)


def _check(path: Path, tiff: tifffile.TiffFile, pages: Sequence[Any]) -> None:
    """Raise a DataError if the file ends before its pieces, NotTileable if they cannot be decoded."""
    page, size, several = pages[0], tiff.filehandle.size, len(tiff.pages) > 1
    if min(_piece(page)) < 1:
        raise ValueError(f"pieces of {_piece(page)} pixels")
    end = max((o + n for p in pages for o, n in zip(p.dataoffsets, p.databytecounts, strict=True)), default=0)
    if end > size:
        raise DataError(
            f"{path}: truncated: its tiles end at byte {end}, the file at {size}",
            hint="Copy it again from its source.",
            path=path,
        )
    raw = not page.is_tiled and page.is_contiguous
    bytes_of_piece = math.prod(_piece(page)) * page.samplesperpixel * page.dtype.itemsize
    if bytes_of_piece > MAX_PIECE_BYTES and not raw:
        raise NotTileable(f"stored in pieces of {_piece(page)[0]}×{_piece(page)[1]} pixels", page, several)
    first = next((i for i, n in enumerate(page.databytecounts) if n), None)
    if first is not None and not raw:
        try:
            page.decode(_bytes(tiff, page.dataoffsets[first], page.databytecounts[first]), first)
        except (ValueError, ImportError) as error:
            # tifffile reports a missing codec only by the text of a ValueError
            if "imagecodecs" in str(error) or isinstance(error, ImportError):
                raise NotTileable(f"compressed by {page.compression.name}", page, several) from error
        except Exception:  # a damaged file can make a decoder raise anything
            return  # reported with its position when the piece is read


def _palette(page: Any) -> list[int] | None:
    return None if page.colormap is None else (page.colormap.T >> 8).ravel().tolist()


def _read_ome_spacing_um(metadata: str) -> tuple[float, float] | None:
    """Spacing of rows and columns of the first image in OME-XML, micrometers; None if it is not recorded."""
    with suppress(ElementTree.ParseError, KeyError, ValueError, StopIteration):
        pixels = next(one for one in ElementTree.fromstring(metadata).iter() if one.tag.endswith("}Pixels"))
        units = [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "YX"]
        y, x = (float(pixels.attrib[f"PhysicalSize{axis}"]) for axis in "YX")
        if min(x, y) > 0:
            return y * _UM_PER_OME_UNIT[units[0]], x * _UM_PER_OME_UNIT[units[1]]
    return None


def _read_spacing_um(page: Any) -> tuple[float, float] | None:
    """Spacing of rows and columns from the resolution tags, micrometers."""
    with suppress(KeyError, ZeroDivisionError, TypeError, ValueError):
        unit = _UM_PER_UNIT[int(page.tags["ResolutionUnit"].value)]
        y, x = (page.tags[name].value for name in ("YResolution", "XResolution"))
        return unit * y[1] / y[0], unit * x[1] / x[0]
    return None
