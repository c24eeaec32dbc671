"""The formats medseg reads. Adding one is a file with a ``Reader`` and its place in ``READERS``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from PIL import Image

from medseg.data.io.dicom.series import DicomReader, UnevenSlices, is_dicom_folder, read_projection_header
from medseg.data.io.image_stacks import ImageStackReader, TiffReader, is_multipage_tiff
from medseg.data.io.itk import ItkReader
from medseg.data.io.nifti import NiftiReader
from medseg.data.io.numpy_reader import NumpyReader
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.pictures import PictureReader
from medseg.data.scans import Kind, Scan
from medseg.data.tiled.ome_zarr import ZARR_SUFFIXES
from medseg.data.tiled.readers import TiledReader
from medseg.errors import DataError
from medseg.geometry import Array


class Reader(Protocol):
    """One file format."""

    suffixes: tuple[str, ...]
    kind: Kind
    output_suffix: str

    def read(self, path: Path) -> Scan:
        """Read a whole file; an exception other than DataError means that it is damaged."""
        ...

    def files(self, path: Path) -> list[Path]:
        """Every file that reading ``path`` (without a mark such as ``#SERIES``) opens."""
        ...

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write an integer label map (*S) on exactly the grid of ``like``."""
        ...


_DICOM, _STACK, _LARGE = DicomReader(), ImageStackReader(), TiledReader()
READERS: tuple[Reader, ...] = (
    NiftiReader(),
    ItkReader(),
    _DICOM,
    PictureReader(),
    TiffReader(),
    NumpyReader(),
    _LARGE,
)


def reader_for(path: Path) -> Reader:
    """The reader of a file, by its name; of a folder, Zarr's by its name, DICOM's, or that of stacks.

    Raises: DataError if no reader knows the suffix.
    """
    base, mark = split_selector(path)
    if is_zarr(base):
        return _LARGE
    if base.is_dir():
        return _DICOM if mark is not None or is_dicom_folder(base) or not _holds_pictures(base) else _STACK
    for reader in READERS:
        if reader.suffixes and base.name.lower().endswith(reader.suffixes):
            return reader
    known = ", ".join(suffix for reader in READERS for suffix in reader.suffixes)
    raise DataError(f"{path}: no reader for this kind of file. Known: {known}")


def output_suffix(path: Path) -> str:
    """What label maps of an image file end in. Raises: DataError as ``reader_for``."""
    if is_multipage_tiff(path):
        return ImageStackReader.output_suffix
    reader = reader_for(path)
    if isinstance(reader, DicomReader) and read_projection_header(path) is not None:
        return PictureReader.output_suffix
    return reader.output_suffix


def _holds_pictures(folder: Path) -> bool:
    return any(p.is_file() and is_image_file(p) for p in folder.iterdir())


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store, by its name."""
    return path.name.lower().endswith(ZARR_SUFFIXES) and path.is_dir()


def is_image_file(path: Path) -> bool:
    """Whether a file's name has a suffix medseg reads, or a folder is Zarr or holds DICOM; hidden ones not."""
    if path.is_dir():
        return not path.name.startswith(".") and (is_zarr(path) or is_dicom_folder(path))
    suffixes = tuple(suffix for reader in READERS for suffix in reader.suffixes)
    return not path.name.startswith(".") and path.name.lower().endswith(suffixes)


def image_stem(path: Path) -> str:
    """A file's name without the suffix of its format (``a.b.nii.gz`` → ``a.b``); a folder's name."""
    if path.is_dir() and not is_zarr(path):
        return path.name
    path = split_selector(path)[0]
    for reader in READERS:
        for suffix in reader.suffixes:
            if path.name.lower().endswith(suffix):
                return path.name[: -len(suffix)]
    return path.stem


def is_dicom_series(path: Path) -> bool:
    """Whether a path is read as a DICOM series, and not as a single projection."""
    return isinstance(reader_for(path), DicomReader) and read_projection_header(path) is None


def read_scan(path: Path, *, uneven: UnevenSlices = "refuse") -> Scan:
    """Read an image file, or a folder of one DICOM series (``FOLDER#NUMBER`` chooses one of several).

    ``uneven`` says what to do with a series whose slices lie unevenly.

    Raises: DataError naming the file if it is missing, empty, truncated, damaged or of no known format;
    GeometryError if its affine cannot be inverted.
    """
    path = Path(path)
    reader = reader_for(path)
    if not split_selector(path)[0].exists():
        raise DataError(f"{path}: no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes). Copy it again from its source.")
    if isinstance(reader, DicomReader):
        reader = DicomReader(uneven)
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
