"""The files that determine what is read at a path, and the digest of their contents."""

from __future__ import annotations

from pathlib import Path

from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import is_dicom_series, is_image_file, reader_for
from medseg.data.labels.coco_annotations import coco_digest
from medseg.files import sha256_file, sha256_json

_MISSING = "missing"


def content_files(path: Path) -> list[Path]:
    """Every file that is opened to read ``path``: headers with their data files, the slices of a folder.

    A file that a header names is listed whether it exists or not.
    """
    base = split_selector(path)[0]
    return reader_for(path).files(base) if base.is_dir() or is_image_file(base) else [base]


def content_digest(path: Path) -> str:
    """The SHA-256 of everything that is read at ``path``.

    For a single file, of its bytes. For several files, of their bytes and names; the names of DICOM slices do
    not count, because each slice holds its own position. For COCO annotations, of those of the one image. A
    file that is missing counts as missing, so that reading fails, not the digest.

    Raises: DataError for annotations that are no COCO JSON.
    """
    base, mark = split_selector(path)
    if base.suffix.lower() == ".json" and mark is not None:
        return coco_digest(base, int(mark))
    files = content_files(path)
    if files == [base]:
        whole = _digest(base)
    elif is_dicom_series(path):
        whole = sha256_json(sorted(_digest(file) for file in files))
    else:
        whole = sha256_json({_name(file, base): _digest(file) for file in files})
    return whole if mark is None else sha256_json([whole, mark])


def _digest(file: Path) -> str:
    return sha256_file(file) if file.is_file() else _MISSING


def _name(file: Path, base: Path) -> str:
    """A file's path as seen from the folder it is read in."""
    folder = base if base.is_dir() else base.parent
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)
