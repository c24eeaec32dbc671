"""Readers and writers of image files. Adding a format is one class here and one line in ``READERS``."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 (the library's own convention)
import tifffile
from PIL import Image

from medseg.data.scans import Kind, Scan
from medseg.errors import DataError, GeometryError
from medseg.geometry import Array, Grid, invertible

_MOST_GZIPPED = 1100
"""Bytes that one byte of a gzip file can stand for, at most (deflate's limit is 1032)."""


class Reader(Protocol):
    """One file format."""

    suffixes: tuple[str, ...]
    kind: Kind
    output_suffix: str

    def read(self, path: Path) -> Scan:
        """Read a whole file; an exception other than DataError means that it is damaged."""
        ...

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colours: Array | None) -> None:
        """Write an integer label map (*S) on exactly the grid of ``like``."""
        ...


class NiftiReader:
    """NIfTI-1 and -2 volumes, plain or gzipped: 3D, or 4D with channels last."""

    suffixes: tuple[str, ...] = (".nii.gz", ".nii")
    kind: Kind = "volume"
    output_suffix = ".nii.gz"

    def read(self, path: Path) -> Scan:
        """Read voxels with the header's scaling applied, and the affine nibabel chooses (sform first)."""
        opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
        with opener(path, "rb") as stream:
            size = stream.read(4)
            stream.seek(0)
            image_class: Any = nib.Nifti2Image if 540 in _both_orders(size) else nib.Nifti1Image
            image = image_class.from_stream(stream)
            if image.get_data_dtype().kind not in "iuf":
                raise DataError(f"{path}: voxels of type {image.get_data_dtype()} are no grey values")
            shape = image.shape
            if len(shape) not in (3, 4) or any(n == 0 for n in shape):
                raise DataError(
                    f"{path}: expected 3 axes, or 4 with channels last; the file's shape is {shape}"
                )
            claimed = math.prod(shape) * image.get_data_dtype().itemsize
            if claimed > path.stat().st_size * (_MOST_GZIPPED if opener is gzip.open else 1):
                raise DataError(
                    f"{path}: truncated or damaged: its header claims {claimed} bytes of voxels, more than the "
                    "file can hold. Copy it again from its source."
                )
            affine = np.asarray(image.affine, dtype=np.float64)
            if not invertible(affine):
                raise GeometryError(
                    f"{path}: the affine is not invertible: {affine.tolist()}. Repair the header."
                )
            voxels = np.asanyarray(image.dataobj)
            while stream.read(1 << 20):  # to the end, where gzip compares its check sum
                pass
        array = voxels[None] if voxels.ndim == 3 else np.moveaxis(voxels, 3, 0)
        return Scan(array, Grid(tuple(shape[:3]), affine), self.kind, path, image.header)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colours: Array | None) -> None:
        """Write with the input's header: affine, qform and sform codes and units stay as they are."""
        save_nifti(path, label_map, like)


def _both_orders(four_bytes: bytes) -> tuple[int, int]:
    return int.from_bytes(four_bytes, "little"), int.from_bytes(four_bytes, "big")


def save_nifti(path: Path, volume: Array, like: Scan) -> None:
    """Write (X, Y, Z) or (X, Y, Z, C) voxels on exactly the grid of ``like``, a NIfTI scan."""
    header = like.header.copy()
    header.set_data_dtype(volume.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = b"medseg"
    header["intent_code"] = 0
    header.extensions.clear()
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    if volume.ndim == 3 and like.header["dim"][0] == 4 and like.header["dim"][4] == 1:
        volume = volume[..., None]  # the input's singleton axis
    nib.save(image_class(volume, None, header), path)


class PictureReader:
    """PNG, JPG and BMP pictures: grey, RGB or RGBA, 8 or 16 bit; palette pictures by their index."""

    suffixes: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp")
    kind: Kind = "picture"
    output_suffix = ".png"

    def read(self, path: Path) -> Scan:
        """Read (C, H, W); the stored pixel grid is kept (an EXIF rotation is not applied)."""
        with Image.open(path) as picture:
            picture.load()  # raises if the file is damaged
            depth, colour_type = _png_format(path)
            if depth == 16 and colour_type == 4:
                raise DataError(f"{path}: 16-bit grey with alpha. Save it without the alpha channel.")
            if depth == 16 and not picture.mode.startswith("I"):  # Pillow cuts colours to 8 bit
                pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            else:
                pixels = _pixels(picture)
            if picture.mode == "L" and depth in (2, 4):  # Pillow stretches the values to 0…255
                pixels = pixels // (255 // (2**depth - 1))
            palette = picture.getpalette("RGB") if picture.mode == "P" else None
        return _picture_scan(pixels, path, palette)

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colours: Array | None) -> None:
        """Write a palette PNG of label values, or 16-bit grey where a value exceeds 255.

        Raises: DataError if a value does not fit into 16 bits without sign.
        """
        low, high = int(label_map.min()), int(label_map.max())
        if low < 0 or high > 65535:
            raise DataError(f"{path}: a PNG holds label values from 0 to 65535, not {low} to {high}")
        if label_map.dtype not in (np.uint8, np.uint16):
            label_map = label_map.astype(np.min_scalar_type(high))
        picture = Image.fromarray(label_map)
        if label_map.dtype == np.uint8 and colours is not None:
            picture.putpalette(colours.astype(np.uint8).tobytes())  # turns L into P, indices kept
        picture.save(path, format="PNG")


class TiffReader(PictureReader):
    """Single-page TIFF pictures: grey, RGB, RGBA or palette, 8, 16 or 32 bit, any usual compression."""

    suffixes: tuple[str, ...] = (".tif", ".tiff")

    def read(self, path: Path) -> Scan:
        """Read (C, H, W)."""
        with tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) > 1:
                raise DataError(f"{path}: a picture has one page, this TIFF has {len(tiff.pages)}")
            page: Any = tiff.pages[0]
            colours = page.colormap  # (3, values) of 16 bits
            pixels = _tiff_pixels(page, path)
        palette = None if colours is None else (colours.T >> 8).ravel().tolist()
        return _picture_scan(pixels, path, palette)


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


READERS: tuple[Reader, ...] = (NiftiReader(), PictureReader(), TiffReader())


def reader_for(path: Path) -> Reader:
    """The reader of a file, by its name.

    Raises: DataError if no reader knows the suffix.
    """
    for reader in READERS:
        if path.name.lower().endswith(reader.suffixes):
            return reader
    known = ", ".join(suffix for reader in READERS for suffix in reader.suffixes)
    raise DataError(f"{path}: no reader for this kind of file. Known: {known}")


def is_image_file(path: Path) -> bool:
    """Whether a file's name has a suffix medseg reads; hidden files have none."""
    suffixes = tuple(suffix for reader in READERS for suffix in reader.suffixes)
    return not path.name.startswith(".") and path.name.lower().endswith(suffixes)


def stem_of(path: Path) -> str:
    """A file's name without the suffix of its format (``a.b.nii.gz`` → ``a.b``)."""
    for reader in READERS:
        for suffix in reader.suffixes:
            if path.name.lower().endswith(suffix):
                return path.name[: -len(suffix)]
    return path.stem


def read_scan(path: Path) -> Scan:
    """Read an image file.

    Raises: DataError naming the file if it is missing, empty, truncated, damaged or of no known format;
    GeometryError if its affine cannot be inverted.
    """
    path = Path(path)
    reader = reader_for(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes). Copy it again from its source.")
    try:
        return reader.read(path)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: its header asks for more memory than there is; is it damaged?") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: too large or damaged ({error}). Cut it into smaller pictures.") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read, truncated or damaged ({reason}). Copy it again from its source."
        ) from error


def _picture_scan(pixels: Array, path: Path, palette: list[int] | None) -> Scan:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or 0 in pixels.shape:
        raise DataError(f"{path}: expected grey, RGB or RGBA pixels (H, W[, 3 or 4]), got {pixels.shape}")
    if pixels.dtype.kind not in "buif":
        raise DataError(f"{path}: pixels of type {pixels.dtype} are no grey values or colours")
    array = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if len(array) == 2:
        array = array[:1]  # grey with alpha
    return Scan(array, Grid.picture(*array.shape[1:]), "picture", path, palette)


def _png_format(path: Path) -> tuple[int, int]:
    """Bits and colour type of a PNG (4: grey with alpha); (8, 0) for other formats."""
    with path.open("rb") as stream:
        head = stream.read(26)
    return (head[24], head[25]) if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 26 else (8, 0)


def as_channels(scan: Scan, channels: int) -> Array:
    """The scan's voxels (C, *S) with the number of channels asked for.

    Pictures are converted: palette and grey to RGB by repetition, RGBA to RGB by dropping alpha, RGB to
    grey by its luminance (Rec. 601). Volumes must have the right number already.
    Raises: DataError if they cannot be converted.
    """
    array = scan.array
    if scan.kind == "picture":
        if isinstance(scan.header, list):  # a palette picture: its colours are the image
            colours = np.array(scan.header, dtype=np.uint8).reshape(-1, 3)
            table = np.zeros((max(256, len(colours)), 3), dtype=np.uint8)
            table[: len(colours)] = colours
            array = np.moveaxis(table[array[0]], -1, 0)
        array = array[:3] if len(array) == 4 else array
        if len(array) == 1 and channels == 3:
            array = np.repeat(array, 3, axis=0)
        elif len(array) == 3 and channels == 1:
            grey = np.tensordot([0.299, 0.587, 0.114], array.astype(np.float32), axes=1)
            array = grey[None].astype(np.float32)
    if len(array) != channels:
        raise DataError(f"{scan.path}: has {len(array)} channels, expected {channels}")
    return array


def picture_channels(scan: Scan) -> int:
    """How many channels a scan has as an image: alpha does not count, a palette is colour."""
    if scan.kind == "picture":
        return 3 if isinstance(scan.header, list) or len(scan.array) >= 3 else 1
    return len(scan.array)
