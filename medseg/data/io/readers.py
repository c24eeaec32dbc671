"""File formats. To add a format, write a module with a :class:`Reader` and add it to ``READERS``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from medseg.data.io.dicom.series import DicomReader, UnevenSlices, is_dicom_folder, read_projection_header
from medseg.data.io.image_stacks import ImageStackReader, TiffReader, is_multipage_tiff
from medseg.data.io.itk import ItkReader
from medseg.data.io.nifti import NiftiReader
from medseg.data.io.numpy_reader import NumpyReader, is_picture_array
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.pictures import PictureReader
from medseg.data.scans import Kind, Scan
from medseg.data.tiled.ome_zarr import ZARR_SUFFIXES
from medseg.data.tiled.readers import TiledReader
from medseg.errors import DataError, ExistingFileError
from medseg.files import write_atomic
from medseg.geometry import Array


class Reader(Protocol):
    """Reader and writer of a file format.

    Attributes:
        suffixes: lower-case endings of the file names.
        kind: whether its images are volumes or pictures.
        output_suffix: ending of the label maps written for its images.
    """

    suffixes: tuple[str, ...]
    kind: Kind
    output_suffix: str

    def read(self, path: Path) -> Scan:
        """Read an image; an exception other than DataError means that the file is damaged."""
        ...

    def files(self, path: Path) -> list[Path]:
        """List the files that are opened to read ``path`` (without a selector such as ``#SERIES``)."""
        ...

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write an integer label map (*S) on exactly the grid of ``like``.

        ``colors`` are (values, 3) uint8, for formats with palettes.
        """
        ...


_COPY_AGAIN = "Copy it again from its source."
_DICOM, _STACK, _TILED = DicomReader(), ImageStackReader(), TiledReader()
READERS: tuple[Reader, ...] = (
    NiftiReader(),
    ItkReader(),
    _DICOM,
    PictureReader(),
    TiffReader(),
    NumpyReader(),
    _TILED,
)


MASK_FORMATS: Mapping[Kind, tuple[str, ...]] = {
    "volume": (".nii.gz", ".nii", ".nrrd", ".mha"),
    "picture": (".png",),
}
"""Kind of scan → endings of the files that masks are written to: one file, with the grid of a volume."""


def reader_for(path: Path) -> Reader:
    """Return the reader of a file by its suffix, or of a folder: Zarr by its name, DICOM or a stack.

    Raises:
        DataError: if the format is unknown.
    """
    base, selector = split_selector(path)
    if is_zarr(base):
        return _TILED
    if base.is_dir():
        return (
            _DICOM if selector is not None or is_dicom_folder(base) or not _contains_pictures(base) else _STACK
        )
    for reader in READERS:
        if reader.suffixes and base.name.lower().endswith(reader.suffixes):
            return reader
    supported = ", ".join(suffix for reader in READERS for suffix in reader.suffixes)
    raise DataError(f"{path}: unknown file format, expected one of {supported}", path=path)


def output_suffix(path: Path) -> str:
    """Return the suffix of the label maps of an image.

    Raises:
        DataError: if the format is unknown.
    """
    if is_multipage_tiff(path):
        return ImageStackReader.output_suffix
    reader = reader_for(path)
    if is_picture_array(path) or (isinstance(reader, DicomReader) and read_projection_header(path) is not None):
        return PictureReader.output_suffix
    return reader.output_suffix


def _contains_pictures(folder: Path) -> bool:
    return any(p.is_file() and is_image_file(p) for p in folder.iterdir())


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr store, judged by its name."""
    return path.name.lower().endswith(ZARR_SUFFIXES) and path.is_dir()


def is_image_file(path: Path) -> bool:
    """Whether a file has a supported suffix, or a folder is a Zarr store or contains DICOM; False if hidden."""
    if path.is_dir():
        return not path.name.startswith(".") and (is_zarr(path) or is_dicom_folder(path))
    suffixes = tuple(suffix for reader in READERS for suffix in reader.suffixes)
    return not path.name.startswith(".") and path.name.lower().endswith(suffixes)


def image_stem(path: Path) -> str:
    """Return the name of an image without the suffix of its format.

    Example:
        >>> image_stem(Path("a.b.nii.gz"))
        'a.b'
    """
    if path.is_dir() and not is_zarr(path):
        return path.name
    path = split_selector(path)[0]
    for reader in READERS:
        for suffix in reader.suffixes:
            if path.name.lower().endswith(suffix):
                return path.name[: -len(suffix)]
    return path.stem


def is_dicom_series(path: Path) -> bool:
    """Whether a path is read as a DICOM series (a projection is not a series)."""
    return isinstance(reader_for(path), DicomReader) and read_projection_header(path) is None


def read_scan(path: Path, *, uneven: UnevenSlices = "refuse") -> Scan:
    """Read an image file, or a folder with a DICOM series or a stack of pictures.

    Args:
        path: file or folder. ``FOLDER#NUMBER`` selects one of several DICOM series, ``FILE.npz#NAME`` one of
            several arrays.
        uneven: handling of DICOM series with unevenly spaced slices.

    Raises:
        DataError: if the file is missing, empty, truncated, damaged or of an unknown format.
        GeometryError: if its affine is not invertible.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.png"
        ...     Image.fromarray(np.zeros((4, 6), np.uint8)).save(path)
        ...     scan = read_scan(path)
        >>> scan.array.shape, scan.kind
        ((1, 4, 6), 'picture')
    """
    path = Path(path)
    reader = reader_for(path)
    if not split_selector(path)[0].exists():
        raise DataError(f"{path}: no such file", path=path)
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes)", hint=_COPY_AGAIN, path=path)
    if isinstance(reader, DicomReader):
        reader = DicomReader(uneven)
    try:
        return reader.read(path)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(
            f"{path}: its header declares more voxels than fit into memory",
            hint="Is the file damaged?",
            path=path,
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: too large or damaged ({error})", hint="Cut it into smaller pictures.", path=path
        ) from error
    except Exception as error:  # a damaged file can make a parser raise anything
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read, truncated or damaged ({reason})", hint=_COPY_AGAIN, path=path
        ) from error


def write_mask(
    path: Path | str, mask: Array, scan: Scan, own: set[Path] | None = None, *, overwrite: bool = False
) -> Path:
    """Write a mask, as 0 and 1, on a scan's grid in the format of the file's ending.

    Args:
        path: the file.
        mask: (*S).
        scan: the scan.
        own: earlier files of the caller, which may be replaced; receives the path.
        overwrite: whether any other existing file is replaced, too.

    Returns:
        The path.

    Raises:
        DataError: masks of such a scan are not written in this format, or the file is the scan.
        ExistingFileError: the file exists and is not the caller's.
    """
    path, endings = Path(path), MASK_FORMATS[scan.kind]
    if not path.name.lower().endswith(endings) or path.is_dir():
        raise DataError(
            f"{path}: a mask of a {scan.kind} is written to a file that ends with {' or '.join(endings)}",
            hint=f"For example {path.with_name(f'{image_stem(path)}{endings[0]}').name}.",
            path=path,
        )
    if path.exists() and scan.path.exists() and path.samefile(scan.path):
        raise DataError(
            f"{path}: is the scan itself, which is not replaced", hint="Choose another name.", path=path
        )
    writer, place = reader_for(path), path.parent.resolve() / path.name
    if os.path.lexists(path) and not overwrite and place not in (own or ()):
        raise ExistingFileError(
            f"{path}: file exists, and is no earlier save of this session",
            hint="Choose another name, or replace it with overwrite=True.",
            path=path,
        )
    with write_atomic(path) as temporary:
        writer.write_label_map(temporary, mask.astype(np.uint8), scan, None)
    if own is not None:
        own.add(place)
    return path
