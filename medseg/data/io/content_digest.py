"""The files that are read for a path, and the digest of their contents."""

from __future__ import annotations

from pathlib import Path

from medseg.data.io.coco import coco_digest
from medseg.data.io.coco_panoptic import is_panoptic_label, panoptic_digest
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import is_dicom_series, is_image_file, reader_for
from medseg.files import sha256_file, sha256_json

_MISSING = "missing"


def content_files(path: Path) -> list[Path]:
    """List the files that are opened to read ``path``: headers with their data files, or slices of a folder.

    Data files named by a header are listed even if they do not exist.
    """
    base = split_selector(path)[0]
    return reader_for(path).files(base) if base.is_dir() or is_image_file(base) else [base]


def content_digest(path: Path) -> str:
    """Compute the SHA-256 of everything that is read for ``path``.

    - A single file: its bytes.
    - Several files: their bytes and names. The names of DICOM slices are not included, because each slice
      contains its position.
    - COCO annotations (``FILE.json#IMAGE``): the annotations of the image.
    - Panoptic annotations (``FILE.json#IMAGE.png``): the segments of the image, and its PNG.

    Missing files are included as missing, so that reading them fails later, not the digest.

    Raises:
        DataError: if annotations are not COCO JSON.
    """
    base, selector = split_selector(path)
    if is_panoptic_label(path) and selector is not None:
        return panoptic_digest(path)
    if base.suffix.lower() == ".json" and selector is not None:
        return coco_digest(base, int(selector))
    files = content_files(path)
    if files == [base]:
        digest = _digest(base)
    elif is_dicom_series(path):
        digest = sha256_json(sorted(_digest(file) for file in files))
    else:
        digest = sha256_json({_name(file, base): _digest(file) for file in files})
    return digest if selector is None else sha256_json([digest, selector])


def _digest(file: Path) -> str:
    return sha256_file(file) if file.is_file() else _MISSING


def _name(file: Path, base: Path) -> str:
    """The path of a file relative to the folder it is read from."""
    folder = base if base.is_dir() else base.parent
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)
