"""Volumes stored as pictures: multi-page TIFF files, and folders with one picture per slice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from medseg.data.io.pictures import PictureReader, SinglePageTiffReader, has_alpha
from medseg.data.scans import Kind, Scan
from medseg.errors import DataError
from medseg.geometry import Array, Grid

_TO_MM = {"um": 1e-3, "µm": 1e-3, "micron": 1e-3, "\\u00b5m": 1e-3, "nm": 1e-6, "mm": 1.0, "cm": 10.0}


class TiffReader(SinglePageTiffReader):
    """TIFF files: one page is a picture; several gray pages are the Z slices of a volume (X, Y, Z).

    The spacing (mm) is computed from ImageJ's slice distance and resolution; it is 1 without them.
    """

    def read(self, path: Path) -> Scan:
        """Read (C, H, W) or (C, X, Y, Z)."""
        with tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) == 1:
                return super().read(path)
            series: Any = tiff.series[0]
            pages = np.asarray(series.asarray())
            axes, spacing = str(series.axes), _imagej_spacing(tiff)
            alpha = has_alpha(tiff.pages[0])
        order = {letter: i for i, letter in enumerate(axes)}
        depth = [letter for letter in axes if letter in "ZQIT" and pages.shape[order[letter]] > 1]
        channel = [letter for letter in axes if letter in "CS"]
        if len(depth) != 1 or len(channel) > 1 or pages.dtype.kind not in "buif":
            raise DataError(
                f"{path}: TIFF axes {axes} of shape {pages.shape} ({pages.dtype}), expected pages that are the "
                "slices of one volume, optionally with channels",
                path=path,
            )
        kept = [*channel, depth[0], "Y", "X"]
        pages = np.squeeze(pages, axis=tuple(i for letter, i in order.items() if letter not in kept))
        left = [letter for letter in axes if letter in kept]
        voxels = pages.transpose([left.index(letter) for letter in [*channel, "X", "Y", depth[0]]])
        voxels = voxels if channel else voxels[None]
        return _volume(voxels[:-1] if alpha and channel == ["S"] else voxels, spacing, path)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write the label map of a picture as PNG, of a volume as multi-page TIFF."""
        if like.kind == "picture":
            super().write_label_map(path, label_map, like, colors)
        else:
            write_stack(path, label_map)


def is_multipage_tiff(path: Path) -> bool:
    """Whether a file is a TIFF with several pages; False for damaged files."""
    if not path.name.lower().endswith(SinglePageTiffReader.suffixes):
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            return len(tiff.pages) > 1
    except (OSError, ValueError):  # TiffFileError is a ValueError
        return False


class ImageStackReader:
    """Folders of pictures of equal size, the slices of a volume in the natural order of their names."""

    suffixes: tuple[str, ...] = ()
    kind: Kind = "volume"
    output_suffix = ".tif"

    def read(self, path: Path) -> Scan:
        """Read a (C, X, Y, Z) volume with spacing 1.

        Raises:
            DataError: if there are no pictures, or they differ in size or channels.
        """
        files = self.files(path)
        readers = (
            SinglePageTiffReader()
            if p.name.lower().endswith(SinglePageTiffReader.suffixes)
            else PictureReader()
            for p in files
        )
        scans = [reader.read(file) for reader, file in zip(readers, files, strict=True)]
        if not scans:
            raise DataError(f"{path}: folder without pictures and without a DICOM series", path=path)
        for scan in scans:
            if scan.array.shape != scans[0].array.shape:
                raise DataError(
                    f"{path}: slices of different sizes: {scans[0].path.name} is {scans[0].array.shape}, "
                    f"{scan.path.name} {scan.array.shape}",
                    path=path,
                )
        stacked = np.stack([scan.array for scan in scans], axis=-1)  # (C, H, W, Z)
        return _volume(stacked.transpose(0, 2, 1, 3), (1.0, 1.0, 1.0), path)

    def files(self, path: Path) -> list[Path]:
        """List the pictures of a folder in the natural order of their names."""
        return sorted(
            (
                p
                for p in path.iterdir()
                if p.name.lower().endswith((*PictureReader.suffixes, *SinglePageTiffReader.suffixes))
            ),
            key=lambda p: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.name)],
        )

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write a multi-page TIFF."""
        write_stack(path, label_map)


def write_stack(path: Path, label_map: Array) -> None:
    """Write an (X, Y, Z) label map as the pages of a compressed TIFF."""
    if label_map.dtype.kind not in "bu":
        ends = (np.min_scalar_type(int(value)) for value in (label_map.min(), label_map.max()))
        label_map = label_map.astype(np.result_type(*ends))
    tifffile.imwrite(path, label_map.transpose(2, 1, 0), compression="zlib", photometric="minisblack")


def _volume(voxels: Array, spacing: tuple[float, float, float], path: Path) -> Scan:
    if voxels.dtype == bool:
        voxels = voxels.astype(np.uint8)
    return Scan(np.ascontiguousarray(voxels), Grid(voxels.shape[1:], np.diag([*spacing, 1.0])), "volume", path)


def _imagej_spacing(tiff: tifffile.TiffFile) -> tuple[float, float, float]:
    """Spacing along X, Y, Z from ImageJ's metadata, mm; 1 without it."""
    metadata: dict[str, Any] = tiff.imagej_metadata or {}
    unit = _TO_MM.get(str(metadata.get("unit", "")).strip())
    if unit is None or "spacing" not in metadata:
        return (1.0, 1.0, 1.0)
    tags: Any = tiff.pages[0].tags  # pyright: ignore[reportAttributeAccessIssue]
    values = [tags[name].value if name in tags else (1, 1) for name in ("XResolution", "YResolution")]
    plane = [b / a if a else 1.0 for a, b in values]
    return (plane[0] * unit, plane[1] * unit, float(metadata["spacing"]) * unit)
