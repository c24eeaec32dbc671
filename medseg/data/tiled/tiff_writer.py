"""Writer of tiled, compressed TIFF files with a pyramid, row by row."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile

from medseg.geometry import Array

TILE = 512
_BIGTIFF_BYTES = 2**32 - 2**26
"""Bytes of pixels above which the file is a BigTIFF."""


class TiledTiffWriter:
    """Writes a picture (H, W) or (H, W, S) row by row.

    The file is an OME-TIFF: its description gives the size of a pixel to other programs. TIFF stores each level
    contiguously, so compressed tiles are kept in unnamed temporary files until
    ``finish`` writes the file. Each level of the pyramid takes every second pixel of every second row of the
    level before, until a level fits into one tile. The levels are sub-images (SubIFDs) of the first.

    Args:
        path: the file to write.
        shape: (H, W) or (H, W, S).
        dtype: data type of the pixels.
        colors: (values, 3) uint8, for 8-bit label maps.
        spacing_um: spacing of rows and columns, micrometers.
        pyramid: whether to write smaller levels.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: Any,
        *,
        colors: Array | None = None,
        spacing_um: tuple[float, float] | None = None,
        pyramid: bool = True,
    ) -> None:
        self.path, self._spacing_um = path, spacing_um
        dtype = np.dtype(dtype)
        self._colors = colors if dtype == np.uint8 else None
        self._levels = [_Level(path.parent, shape, dtype)]
        while pyramid and max(self._levels[-1].shape[:2]) > TILE:
            h, w, *samples = self._levels[-1].shape
            self._levels.append(_Level(path.parent, ((h + 1) // 2, (w + 1) // 2, *samples), dtype))

    def add(self, rows: Array) -> None:
        """Write the next rows (n, W[, S])."""
        self._add(0, rows)

    def _add(self, level: int, rows: Array) -> None:
        for band in self._levels[level].add(rows):
            if level + 1 < len(self._levels):
                self._add(level + 1, band[::2, ::2])

    def finish(self) -> None:
        """Write the file. Raises: ValueError if rows are missing."""
        first = self._levels[0]
        if first.rows != first.shape[0]:
            raise ValueError(f"{self.path}: {first.rows} of {first.shape[0]} rows were written")
        size = sum(n for level in self._levels for n in level.sizes)
        with tifffile.TiffWriter(self.path, bigtiff=size > _BIGTIFF_BYTES) as tiff:
            for i, level in enumerate(self._levels):
                tiff.write(
                    level.tiles(),
                    shape=level.shape,
                    dtype=level.dtype,
                    tile=(TILE, TILE),
                    compression="zlib",
                    planarconfig="contig" if len(level.shape) == 3 else None,
                    subifds=len(self._levels) - 1 if i == 0 else None,
                    subfiletype=1 if i else 0,
                    description=None if i else self._ome_xml(),
                    metadata=None,
                    software="medseg",
                    **self._tags(2**i),
                )

    def close(self) -> None:
        """Remove the temporary files."""
        for level in self._levels:
            level.close()

    def __enter__(self) -> TiledTiffWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ome_xml(self) -> bytes:
        """Return the description of the picture as OME-XML."""
        first = self._levels[0]
        height, width, *samples = first.shape
        count = samples[0] if samples else 1
        kind = {"float32": "float", "float64": "double"}.get(first.dtype.name, first.dtype.name)
        sizes = ""
        if self._spacing_um is not None:
            sizes = "".join(
                f' PhysicalSize{axis}="{size:.9g}" PhysicalSize{axis}Unit="µm"'
                for axis, size in zip("YX", self._spacing_um, strict=True)
            )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="{kind}" SizeX="{width}" '
            f'SizeY="{height}" SizeC="{count}" SizeZ="1" SizeT="1"{sizes}>'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="{count}"/><TiffData IFD="0" PlaneCount="1"/>'
            "</Pixels></Image></OME>"
        ).encode()

    def _tags(self, step: int) -> dict[str, Any]:
        tags: dict[str, Any] = {"photometric": "minisblack"}
        if self._colors is not None:
            tags = {"photometric": "palette", "colormap": self._colors.T.astype(np.uint16) * 257}
        if self._spacing_um is not None:
            y, x = self._spacing_um
            tags |= {"resolution": (1e4 / (step * x), 1e4 / (step * y)), "resolutionunit": "CENTIMETER"}
        return tags


class _Level:
    """One level: the rows of an incomplete band of tiles, and the compressed tiles of the bands before."""

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self.rows = 0
        self.sizes: list[int] = []
        self._tiles_file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        padded = -(-shape[1] // TILE) * TILE
        self._band = np.zeros((TILE, padded, *shape[2:]), dtype)

    def add(self, rows: Array) -> Iterator[Array]:
        """Add rows and yield each complete band; a band is only valid until the next one."""
        while len(rows):
            at = self.rows % TILE
            part, rows = rows[: TILE - at], rows[TILE - at :]
            self._band[at : at + len(part), : self.shape[1]] = part
            self.rows += len(part)
            if self.rows % TILE == 0 or self.rows == self.shape[0]:
                height = at + len(part)
                self._band[height:] = 0
                self._flush()
                yield self._band[:height, : self.shape[1]]

    def _flush(self) -> None:
        for left in range(0, self._band.shape[1], TILE):
            data = zlib.compress(self._band[:, left : left + TILE].tobytes(), 6)
            self._tiles_file.write(data)
            self.sizes.append(len(data))

    def tiles(self) -> Iterator[bytes]:
        """Yield the compressed tiles, row by row."""
        self._tiles_file.seek(0)
        for size in self.sizes:
            yield self._tiles_file.read(size)

    def close(self) -> None:
        self._tiles_file.close()
