"""Pictures: PNG, JPG, BMP and TIFF, gray or color."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image

from medseg.data.scans import Kind, Scan, SingleFileReader
from medseg.errors import DataError
from medseg.geometry import Array, Grid

_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")


class PictureReader(SingleFileReader):
    """PNG, JPG, BMP and GIF pictures: gray or color, 8 or 16 bit; palette pictures by their index.

    An alpha channel is left out: it is no part of the image.
    """

    suffixes: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
    kind: Kind = "picture"
    output_suffix = ".png"

    def read(self, path: Path) -> Scan:
        """Read (C, H, W); the stored pixel grid is kept (an EXIF rotation is not applied)."""
        with Image.open(path) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise DataError(f"{path}: an animation of {frames} pictures, expected one. Save one as PNG.")
            picture.load()  # raises if the file is damaged
            depth, color_type = _png_format(path)
            if depth == 16 and color_type == 4:
                raise DataError(f"{path}: 16-bit gray with alpha. Save it without the alpha channel.")
            if depth == 16 and not picture.mode.startswith("I"):  # Pillow cuts colors to 8 bit
                pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            else:
                pixels = _pixels(picture)
            if picture.mode == "L" and depth in (2, 4):  # Pillow stretches the values to 0…255
                pixels = pixels // (255 // (2**depth - 1))
            palette = picture.getpalette("RGB") if picture.mode == "P" else None
            alpha = picture.mode in _ALPHA_MODES or (depth == 16 and color_type == 6)
        return scan_from_pixels(pixels, path, palette, alpha=alpha)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write a palette PNG of label values, or 16-bit gray where a value exceeds 255.

        Raises: DataError if a value does not fit into 16 bits without sign.
        """
        low, high = int(label_map.min()), int(label_map.max())
        if low < 0 or high > 65535:
            raise DataError(f"{path}: a PNG holds label values from 0 to 65535, not {low} to {high}")
        if label_map.dtype not in (np.uint8, np.uint16):
            label_map = label_map.astype(np.min_scalar_type(high))
        picture = Image.fromarray(label_map)
        if label_map.dtype == np.uint8 and colors is not None:
            picture.putpalette(colors.astype(np.uint8).tobytes())  # turns L into P, indices kept
        picture.save(path, format="PNG")


class SinglePageTiffReader(PictureReader):
    """Single-page TIFF pictures of any number of samples, or with a palette; any usual compression.

    A further sample that the file declares to be alpha is left out; one that it leaves open is a channel.
    """

    suffixes: tuple[str, ...] = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".btf")

    def read(self, path: Path) -> Scan:
        """Read (C, H, W)."""
        with tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) > 1:
                raise DataError(f"{path}: a picture has one page, this TIFF has {len(tiff.pages)}")
            page: Any = tiff.pages[0]
            colors = page.colormap  # (3, values) of 16 bits
            pixels = _tiff_pixels(page, path)
            alpha = has_alpha(page)
        palette = None if colors is None else (colors.T >> 8).ravel().tolist()
        return scan_from_pixels(pixels, path, palette, alpha=alpha)


def has_alpha(page: Any) -> bool:
    """Whether the last sample of a TIFF page's pixels is declared to be alpha."""
    extra = tuple(page.extrasamples or ())
    return bool(extra) and int(extra[-1]) in (1, 2)


def _tiff_pixels(page: Any, path: Path) -> Array:
    """A page's pixels by tifffile, or by Pillow where tifffile misses the codec (LZW, JPEG, fax, …)."""
    try:
        pixels = page.asarray()
        planes = pixels.ndim == 3 and page.planarconfig == 2  # channels stored plane by plane
        return np.moveaxis(pixels, 0, -1) if planes else pixels
    except (ValueError, ImportError) as error:
        if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
            raise
        with Image.open(path) as picture:
            pixels = _pixels(picture)
        if pixels.dtype.itemsize * 8 < page.bitspersample:
            raise
        return pixels


def _pixels(picture: Image.Image) -> Array:
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return np.asarray(picture.convert("RGB"))
    return np.asarray(picture)


def scan_from_pixels(pixels: Array, path: Path, palette: list[int] | None, *, alpha: bool = False) -> Scan:
    """A picture of pixels (H, W) or (H, W, S); the last sample is left out where it is ``alpha``.

    Raises: DataError for arrays of another shape or type.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise DataError(f"{path}: expected pixels (H, W), or (H, W, channels), got {pixels.shape}")
    if pixels.dtype.kind not in "buif":
        raise DataError(f"{path}: pixels of type {pixels.dtype} are no gray values or colors")
    if alpha and pixels.shape[2] > 1:
        pixels = pixels[..., :-1]
    array = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return Scan(array, Grid.picture(*array.shape[1:]), "picture", path, palette)


def _png_format(path: Path) -> tuple[int, int]:
    """Bits and color type of a PNG (4: gray with alpha); (8, 0) for other formats."""
    with path.open("rb") as stream:
        head = stream.read(26)
    return (head[24], head[25]) if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 26 else (8, 0)


def convert_channels(scan: Scan, channels: int) -> Array:
    """The scan's voxels (C, *S) with the number of channels asked for.

    Pictures are converted: palette and gray to RGB by repetition, RGB to gray by its luminance (Rec. 601).
    Volumes must have the right number already.
    Raises: DataError if they cannot be converted.
    """
    array = scan.array
    if scan.kind == "picture":
        array = apply_palette(scan)
        if len(array) == 1 and channels == 3:
            array = np.repeat(array, 3, axis=0)
        elif len(array) == 3 and channels == 1:
            gray = np.tensordot([0.299, 0.587, 0.114], array.astype(np.float32), axes=1)
            array = gray[None].astype(np.float32)
    if len(array) != channels:
        raise DataError(f"{scan.path}: has {len(array)} channels, expected {channels}")
    return array


def apply_palette(scan: Scan) -> Array:
    """A picture's channels (C, H, W): the colors of a palette picture, else the voxels themselves."""
    if not isinstance(scan.header, list):
        return scan.array
    colors = np.array(scan.header, dtype=np.uint8).reshape(-1, 3)
    table = np.zeros((max(256, len(colors)), 3), dtype=np.uint8)
    table[: len(colors)] = colors
    return np.moveaxis(table[scan.array[0]], -1, 0)


def count_channels(scan: Scan) -> int:
    """How many channels a scan has as an image: a palette is color."""
    return 3 if scan.kind == "picture" and isinstance(scan.header, list) else len(scan.array)


def display_channels(scan: Scan) -> Array:
    """What is shown of a picture: (3, H, W) colors, or its first channel as (1, H, W)."""
    array = apply_palette(scan)
    return array if len(array) == 3 else array[:1]
