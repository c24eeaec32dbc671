"""``TiledImage``: a picture that stays in its file and is read in boxes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from medseg.data.io.pictures import convert_channels, count_channels, scan_from_pixels
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.geometry import Array

CACHE_BYTES = 512 * 2**20
"""Memory for decoded tiles; a row of tiles across the picture should fit."""

MAX_PIECE_BYTES = 2**30
"""Largest piece of a file (tile, strip or chunk) that is decoded at once."""

Box = tuple[slice, ...]
"""A slice of rows and a slice of columns."""


class PyramidLevel(Protocol):
    """One level of a picture, stored in pieces of equal size: tiles, strips or chunks.

    Attributes:
        shape: rows and columns.
        tile: rows and columns of a piece.
        palette: red, green, blue of each index, for palette pictures.
        alpha: whether the last sample of a pixel is alpha.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    palette: list[int] | None
    alpha: bool

    def decode(self, row: int, column: int) -> Array:
        """Decode the piece (h, w, S) in a row and column of pieces, cropped at the edge of the picture.

        Any exception means that the file is damaged.
        """
        ...


@dataclass(frozen=True)
class TiledFile:
    """An open file with a pyramid of levels.

    Attributes:
        levels: rows and columns of each level, the finest first.
        tiles: returns a level by its index.
        close: closes the file.
        spacing_um: spacing of rows and columns of the finest level in micrometers; None if unknown.
        tiled_only: whether no other reader of medseg supports the file.
    """

    levels: tuple[tuple[int, int], ...]
    tiles: Callable[[int], PyramidLevel]
    close: Callable[[], None]
    spacing_um: tuple[float, float] | None = None
    tiled_only: bool = False


class TiledImage:
    """One level of a picture in a file, read in boxes.

    Decoded pieces are cached, so that reading windows row by row decodes each piece about once.

    Args:
        path: path of the file.
        file: the open file.
        level: level of the pyramid; 0 is the finest.
        cache_bytes: memory for decoded pieces.

    Raises:
        DataError: if the file does not have this level.
    """

    def __init__(self, path: Path, file: TiledFile, level: int = 0, *, cache_bytes: int = CACHE_BYTES) -> None:
        if level >= len(file.levels):
            raise DataError(
                f"{path}: no level {level}; its levels are {describe_levels(file.levels)}",
                hint="Select one with --set level=…",
                path=path,
            )
        self.path, self.level, self.levels = path, level, file.levels
        self._file, self._tiles = file, file.tiles(level)
        self._cache: OrderedDict[tuple[int, int], Array] = OrderedDict()
        self._cached, self._cache_bytes = 0, cache_bytes

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the level."""
        return self._tiles.shape

    @property
    def spacing_um(self) -> tuple[float, float] | None:
        """Spacing of the level's rows and columns in micrometers; None if unknown."""
        if self._file.spacing_um is None:
            return None
        finest = self.levels[0]
        y, x = (
            spacing * n / own for spacing, n, own in zip(self._file.spacing_um, finest, self.shape, strict=True)
        )
        return y, x

    @property
    def samples(self) -> int:
        """Number of channels: 3 for color, 1 for gray; alpha is not counted."""
        first = self.read((slice(0, 1), slice(0, 1)))
        return count_channels(self._scan(first))

    @property
    def tiled_only(self) -> bool:
        """Whether no other reader of medseg supports the file."""
        return self._file.tiled_only

    def at(self, level: int) -> TiledImage:
        """Return another level of the same file, which is closed together with this one."""
        return TiledImage(self.path, self._file, level, cache_bytes=self._cache_bytes)

    def read(self, box: Box) -> Array:
        """Read pixels (h, w, S) as stored.

        Raises:
            DataError: naming the position where the file is damaged or contains NaN or infinite pixels.
        """
        rows, columns = box
        (th, tw), block = self._tiles.tile, None
        for r in range(rows.start // th, math.ceil(rows.stop / th)):
            for c in range(columns.start // tw, math.ceil(columns.stop / tw)):
                piece = self._cached_piece(r, c)
                if block is None:
                    size = (rows.stop - rows.start, columns.stop - columns.start, piece.shape[2])
                    block = np.empty(size, piece.dtype)
                ys, own_ys = _overlap(rows, r * th, piece.shape[0])
                xs, own_xs = _overlap(columns, c * tw, piece.shape[1])
                block[ys, xs] = piece[own_ys, own_xs]
        if block is None:
            raise ValueError(f"the box {box} is empty")
        return block

    def channels(self, box: Box, channels: int) -> Array:
        """Read pixels (C, h, w), converted to a number of channels like whole pictures.

        Raises:
            DataError: as :meth:`read`, and if the channels cannot be converted.
        """
        return convert_channels(self._scan(self.read(box)), channels)

    def _scan(self, pixels: Array) -> Scan:
        return scan_from_pixels(pixels, self.path, self._tiles.palette, alpha=self._tiles.alpha)

    def boxes(self) -> Iterator[Box]:
        """Yield the boxes of all pieces, row by row."""
        (h, w), (th, tw) = self.shape, self._tiles.tile
        for top in range(0, h, th):
            for left in range(0, w, tw):
                yield slice(top, min(h, top + th)), slice(left, min(w, left + tw))

    def subsample(self, stride: int, channels: int) -> Array:
        """Read every ``stride``-th pixel of every ``stride``-th row: (C, ⌈H / stride⌉, ⌈W / stride⌉)."""
        size = tuple(math.ceil(length / stride) for length in self.shape)
        result: Array | None = None
        for rows, columns in self.boxes():
            pixels = self.read((rows, columns))[
                -rows.start % stride :: stride, -columns.start % stride :: stride
            ]
            if pixels.size == 0:
                continue
            part = convert_channels(self._scan(pixels), channels)
            if result is None:
                result = np.empty((channels, *size), part.dtype)
            y, x = math.ceil(rows.start / stride), math.ceil(columns.start / stride)
            result[:, y : y + part.shape[1], x : x + part.shape[2]] = part
        assert result is not None
        return result

    def close(self) -> None:
        """Close the file and clear the cache."""
        self._cache.clear()
        self._cached = 0
        self._file.close()

    def __enter__(self) -> TiledImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cached_piece(self, row: int, column: int) -> Array:
        key = (row, column)
        piece = self._cache.get(key)
        if piece is None:
            piece = self._decode(row, column)
            self._cache[key] = piece
            self._cached += piece.nbytes
            while self._cached > self._cache_bytes and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].nbytes
        else:
            self._cache.move_to_end(key)
        return piece

    def _decode(self, row: int, column: int) -> Array:
        y, x = row * self._tiles.tile[0], column * self._tiles.tile[1]
        try:
            piece = self._tiles.decode(row, column)
            piece = np.array(
                piece, piece.dtype.newbyteorder("=")
            )  # copy, so that the decoded parent can be freed
        except (DataError, MemoryError):
            raise
        except Exception as error:  # a damaged file can make a decoder raise anything
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{self.path}: cannot be read at row {y}, column {x}, truncated or damaged ({reason})",
                hint="Copy it again from its source.",
                path=self.path,
            ) from error
        if piece.dtype.kind == "f" and not np.isfinite(piece).all():
            raise DataError(
                f"{self.path}: pixels near row {y}, column {x} are NaN or infinite",
                hint="Replace them, for example with the minimum of the picture.",
                path=self.path,
            )
        return piece


def _overlap(requested: slice, start: int, length: int) -> tuple[slice, slice]:
    """Overlap of a piece with requested rows or columns: slices of the request and of the piece."""
    first, last = max(requested.start, start), min(requested.stop, start + length)
    return slice(first - requested.start, last - requested.start), slice(first - start, last - start)


def describe_levels(levels: Sequence[tuple[int, int]]) -> str:
    """Format the levels of a pyramid as ``0 (40000×30000), 1 (20000×15000)``, rows first."""
    return ", ".join(f"{i} ({h}×{w})" for i, (h, w) in enumerate(levels))
