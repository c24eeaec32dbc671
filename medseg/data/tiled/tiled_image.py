"""``TiledImage``: a picture that stays in its file, of which boxes are read."""

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
"""How much decoded tiles may take; a row of tiles across the picture should fit."""

PIECE_BYTES = 2**30
"""The largest piece of a file (tile, strip or chunk) that is decoded at once."""

Box = tuple[slice, ...]
"""Rows and columns."""


class PyramidLevel(Protocol):
    """One level of a picture, stored in pieces of one size: tiles, strips or chunks.

    Attributes:
        shape: rows and columns.
        tile: rows and columns of a piece.
        palette: red, green, blue of each index, for palette pictures.
        alpha: the last sample of a pixel is alpha.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    palette: list[int] | None
    alpha: bool

    def decode(self, row: int, column: int) -> Array:
        """Piece (h, w, S) in a row and column of pieces, cut off at the picture's edge.

        Any exception means that the file is damaged.
        """
        ...


@dataclass(frozen=True)
class TiledFile:
    """What a format's module finds in a file.

    Attributes:
        levels: rows and columns of each level of the pyramid, the finest first.
        tiles: gives a level.
        close: closes the file.
        um: micrometres between rows and columns of the finest level, where the file tells.
        tiled_only: no other reader of medseg's takes the file.
    """

    levels: tuple[tuple[int, int], ...]
    tiles: Callable[[int], PyramidLevel]
    close: Callable[[], None]
    um: tuple[float, float] | None = None
    tiled_only: bool = False


class TiledImage:
    """One level of a picture in a file, read box by box. Decoded pieces are kept as long as they fit into
    ``cache_bytes``, so that windows going by in rows decode each piece about once.

    Raises: DataError if the file has no such level.
    """

    def __init__(self, path: Path, file: TiledFile, level: int = 0, *, cache_bytes: int = CACHE_BYTES) -> None:
        if level >= len(file.levels):
            raise DataError(
                f"{path}: has no level {level}; its levels are {describe_levels(file.levels)}. Choose one with "
                "--set level=…"
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
    def um(self) -> tuple[float, float] | None:
        """Micrometres between the level's rows and columns, where the file tells."""
        if self._file.um is None:
            return None
        finest = self.levels[0]
        y, x = (u * n / own for u, n, own in zip(self._file.um, finest, self.shape, strict=True))
        return y, x

    @property
    def samples(self) -> int:
        """Channels as a picture: 3 for color, 1 for gray; alpha does not count."""
        first = self.read((slice(0, 1), slice(0, 1)))
        return count_channels(self._scan(first))

    @property
    def tiled_only(self) -> bool:
        """Whether no other reader of medseg's takes the file."""
        return self._file.tiled_only

    def at(self, level: int) -> TiledImage:
        """Another level of the same file, which is closed with this one."""
        return TiledImage(self.path, self._file, level, cache_bytes=self._cache_bytes)

    def read(self, box: Box) -> Array:
        """Pixels (h, w, S) as they are stored.

        Raises: DataError naming the place where the file is damaged, or holds NaN or infinite pixels.
        """
        rows, columns = box
        (th, tw), block = self._tiles.tile, None
        for r in range(rows.start // th, math.ceil(rows.stop / th)):
            for c in range(columns.start // tw, math.ceil(columns.stop / tw)):
                piece = self._piece(r, c)
                if block is None:
                    size = (rows.stop - rows.start, columns.stop - columns.start, piece.shape[2])
                    block = np.empty(size, piece.dtype)
                ys, own_ys = _shared(rows, r * th, piece.shape[0])
                xs, own_xs = _shared(columns, c * tw, piece.shape[1])
                block[ys, xs] = piece[own_ys, own_xs]
        if block is None:
            raise ValueError(f"the box {box} is empty")
        return block

    def channels(self, box: Box, channels: int) -> Array:
        """Pixels (C, h, w) with the number of channels asked for, converted as whole pictures are.

        Raises: DataError as :meth:`read`, and if they cannot be converted.
        """
        return convert_channels(self._scan(self.read(box)), channels)

    def _scan(self, pixels: Array) -> Scan:
        return scan_from_pixels(pixels, self.path, self._tiles.palette, alpha=self._tiles.alpha)

    def boxes(self) -> Iterator[Box]:
        """The boxes of all pieces, row by row."""
        (h, w), (th, tw) = self.shape, self._tiles.tile
        for top in range(0, h, th):
            for left in range(0, w, tw):
                yield slice(top, min(h, top + th)), slice(left, min(w, left + tw))

    def sampled(self, stride: int, channels: int) -> Array:
        """Every ``stride``-th pixel (C, ceil(H / stride), ceil(W / stride)) of every ``stride``-th row."""
        size = tuple(math.ceil(length / stride) for length in self.shape)
        whole: Array | None = None
        for rows, columns in self.boxes():
            pixels = self.read((rows, columns))[
                -rows.start % stride :: stride, -columns.start % stride :: stride
            ]
            if pixels.size == 0:
                continue
            part = convert_channels(self._scan(pixels), channels)
            if whole is None:
                whole = np.empty((channels, *size), part.dtype)
            y, x = math.ceil(rows.start / stride), math.ceil(columns.start / stride)
            whole[:, y : y + part.shape[1], x : x + part.shape[2]] = part
        assert whole is not None
        return whole

    def close(self) -> None:
        """Close the file, and let go of what was read."""
        self._cache.clear()
        self._cached = 0
        self._file.close()

    def __enter__(self) -> TiledImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _piece(self, row: int, column: int) -> Array:
        key = (row, column)
        piece = self._cache.get(key)
        if piece is None:
            piece = self._decoded(row, column)
            self._cache[key] = piece
            self._cached += piece.nbytes
            while self._cached > self._cache_bytes and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].nbytes
        else:
            self._cache.move_to_end(key)
        return piece

    def _decoded(self, row: int, column: int) -> Array:
        y, x = row * self._tiles.tile[0], column * self._tiles.tile[1]
        try:
            piece = self._tiles.decode(row, column)
            piece = np.array(piece, piece.dtype.newbyteorder("="))  # lets go of what it was cut from
        except (DataError, MemoryError):
            raise
        except Exception as error:  # a damaged file can make a decoder raise anything
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{self.path}: cannot be read at row {y}, column {x}, truncated or damaged ({reason}). Copy it "
                "again from its source."
            ) from error
        if piece.dtype.kind == "f" and not np.isfinite(piece).all():
            raise DataError(
                f"{self.path}: pixels near row {y}, column {x} are NaN or infinite. Replace them and try again."
            )
        return piece


def _shared(wanted: slice, start: int, length: int) -> tuple[slice, slice]:
    """What a piece has of the rows (or columns) wanted: its place among them, and within the piece."""
    first, last = max(wanted.start, start), min(wanted.stop, start + length)
    return slice(first - wanted.start, last - wanted.start), slice(first - start, last - start)


def describe_levels(levels: Sequence[tuple[int, int]]) -> str:
    """``0 (40000×30000), 1 (20000×15000)``, rows first."""
    return ", ".join(f"{i} ({h}×{w})" for i, (h, w) in enumerate(levels))
