"""Pictures: PNG, JPEG, BMP, GIF and single-page TIFF, gray or color."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image

from medseg.data.scans import ARRAY, Kind, Scan, SingleFileReader
from medseg.errors import DataError
from medseg.geometry import Array, Grid

_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")


class PictureReader(SingleFileReader):
    """PNG, JPEG, BMP and GIF pictures: gray or color, 8 or 16 bits; palette pictures as palette indices.

    An alpha channel is dropped.
    """

    suffixes: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
    kind: Kind = "picture"
    output_suffix = ".png"

    def read(self, path: Path) -> Scan:
        """Read (C, H, W) in the stored orientation (an EXIF rotation is not applied)."""
        with Image.open(path) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise DataError(
                    f"{path}: an animation of {frames} pictures, expected one",
                    hint="Save one of them as PNG.",
                    path=path,
                )
            picture.load()  # raises if the file is damaged
            depth, color_type = _png_format(path)
            if depth == 16 and color_type == 4:
                raise DataError(
                    f"{path}: 16-bit gray with alpha is not supported",
                    hint="Save it without the alpha channel.",
                    path=path,
                )
            if depth == 16 and not picture.mode.startswith("I"):  # Pillow reduces colors to 8 bits
                pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            else:
                pixels = _pixels(picture)
            if picture.mode == "L" and depth in (2, 4):  # Pillow scales the values to 0…255
                pixels = pixels // (255 // (2**depth - 1))
            palette = picture.getpalette("RGB") if picture.mode == "P" else None
            alpha = picture.mode in _ALPHA_MODES or (depth == 16 and color_type == 6)
        return scan_from_pixels(pixels, path, palette, alpha=alpha)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write a palette PNG of label values, or 16-bit gray if a value exceeds 255.

        Raises:
            DataError: if a value does not fit into 16 unsigned bits.
        """
        low, high = int(label_map.min()), int(label_map.max())
        if low < 0 or high > 65535:
            raise DataError(
                f"{path}: label values from {low} to {high}, expected 0 to 65535 for PNG",
                hint="Convert the picture to TIFF: its label map is a TIFF then, which holds larger values.",
                path=path,
            )
        if label_map.dtype not in (np.uint8, np.uint16):
            label_map = label_map.astype(np.min_scalar_type(high))
        picture = Image.fromarray(label_map)
        if label_map.dtype == np.uint8 and colors is not None:
            picture.putpalette(colors.astype(np.uint8).tobytes())  # converts mode L to P and keeps the indices
        picture.save(path, format="PNG")


class SinglePageTiffReader(PictureReader):
    """Single-page TIFF pictures with any number of samples or a palette, and any common compression.

    An extra sample declared as alpha is dropped; an undeclared one is a channel.
    """

    suffixes: tuple[str, ...] = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".btf")

    def read(self, path: Path) -> Scan:
        """Read (C, H, W)."""
        with tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) > 1:
                raise DataError(
                    f"{path}: TIFF with {len(tiff.pages)} pages, expected one for a picture", path=path
                )
            page: Any = tiff.pages[0]
            colors = page.colormap  # (3, values), 16 bits
            pixels = _tiff_pixels(page, path)
            alpha = has_alpha(page)
        palette = None if colors is None else (colors.T >> 8).ravel().tolist()
        return scan_from_pixels(pixels, path, palette, alpha=alpha)


def has_alpha(page: Any) -> bool:
    """Whether the last sample of a TIFF page is declared as alpha."""
    extra = tuple(page.extrasamples or ())
    return bool(extra) and int(extra[-1]) in (1, 2)


def _tiff_pixels(page: Any, path: Path) -> Array:
    """Decode a page with tifffile, or with Pillow if tifffile lacks the codec (LZW, JPEG, fax, …)."""
    try:
        pixels = page.asarray()
        planes = pixels.ndim == 3 and page.planarconfig == 2  # channels stored as planes
        return np.moveaxis(pixels, 0, -1) if planes else pixels
    except (ValueError, ImportError) as error:
        # tifffile reports a missing codec only by the text of a ValueError
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
    """Create a picture from an array of pixels.

    Args:
        pixels: (H, W) or (H, W, S).
        path: the file that the pixels were read from.
        palette: red, green and blue of each index, for palette pictures.
        alpha: whether the last sample is alpha, which is dropped.

    Raises:
        DataError: if the array has another shape or data type.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise DataError(
            f"{path}: pixels of shape {pixels.shape}, expected (H, W) or (H, W, channels)", path=path
        )
    if pixels.dtype.kind not in "buif":
        raise DataError(f"{path}: pixels of type {pixels.dtype}, expected gray values or colors", path=path)
    if alpha and pixels.shape[2] > 1:
        pixels = pixels[..., :-1]
    array = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return Scan(array, Grid.picture(*array.shape[1:]), "picture", path, palette)


def _png_format(path: Path) -> tuple[int, int]:
    """Bit depth and color type of a PNG (4: gray with alpha); (8, 0) for other formats."""
    with path.open("rb") as stream:
        head = stream.read(26)
    return (head[24], head[25]) if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 26 else (8, 0)


def convert_channels(scan: Scan, channels: int) -> Array:
    """Convert a scan to a number of channels.

    Pictures are converted: palettes to colors, gray to RGB by repetition, RGB to gray by luminance (Rec. 601).
    Volumes must already have this number of channels.

    Returns:
        (C, *S).

    Raises:
        DataError: if the channels cannot be converted.
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
        last = scan.path == ARRAY and array.shape[-1] in (channels, 3, 4)
        axes = "(C, H, W)" if scan.kind == "picture" else "(C, X, Y, Z)"
        raise DataError(
            f"{scan.path}: has {len(array)} channels, expected {channels}",
            hint=f"Channels are the first axis of an array, {axes}: np.moveaxis(array, -1, 0)."
            if last
            else None,
            path=scan.path,
        )
    return array


def apply_palette(scan: Scan) -> Array:
    """Return the channels (C, *S) of a scan: the colors of a palette picture, otherwise the voxels."""
    if not isinstance(scan.header, list):
        return scan.array
    colors = np.array(scan.header, dtype=np.uint8).reshape(-1, 3)
    table = np.zeros((max(256, len(colors)), 3), dtype=np.uint8)
    table[: len(colors)] = colors
    return np.moveaxis(table[scan.array[0]], -1, 0)


def count_channels(scan: Scan) -> int:
    """Return the number of channels of an image; a palette picture has 3."""
    return 3 if scan.kind == "picture" and isinstance(scan.header, list) else len(scan.array)


def display_image(scan: Scan) -> Array:
    """Return the pixels of a picture to display, (H, W) or (H, W, 3), or the first channel of a volume."""
    if scan.kind == "volume":
        return scan.array[0]
    pixels = display_channels(scan)
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]


def display_channels(scan: Scan) -> Array:
    """Return the channels to display: (3, H, W) colors, or the first channel as (1, H, W)."""
    array = apply_palette(scan)
    return array if len(array) == 3 else array[:1]
