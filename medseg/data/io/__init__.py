"""File formats: reading images into :class:`~medseg.data.scans.Scan` objects and writing label maps.

``read_scan`` reads any supported file or folder. Each format has a reader in its own module; ``READERS`` lists
them.

The names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.data.io.dicom.series import DicomReader
    from medseg.data.io.image_stacks import ImageStackReader, TiffReader
    from medseg.data.io.itk import ItkReader
    from medseg.data.io.multichannel import read_image
    from medseg.data.io.nifti import NiftiReader, write_nifti
    from medseg.data.io.numpy_reader import NumpyReader
    from medseg.data.io.path_selectors import split_selector
    from medseg.data.io.pictures import PictureReader, convert_channels
    from medseg.data.io.readers import (
        READERS,
        Reader,
        image_stem,
        is_image_file,
        output_suffix,
        read_scan,
        reader_for,
    )

_HOME = {
    "DicomReader": "medseg.data.io.dicom.series",
    "ImageStackReader": "medseg.data.io.image_stacks",
    "ItkReader": "medseg.data.io.itk",
    "NiftiReader": "medseg.data.io.nifti",
    "NumpyReader": "medseg.data.io.numpy_reader",
    "PictureReader": "medseg.data.io.pictures",
    "READERS": "medseg.data.io.readers",
    "Reader": "medseg.data.io.readers",
    "TiffReader": "medseg.data.io.image_stacks",
    "convert_channels": "medseg.data.io.pictures",
    "image_stem": "medseg.data.io.readers",
    "is_image_file": "medseg.data.io.readers",
    "output_suffix": "medseg.data.io.readers",
    "read_image": "medseg.data.io.multichannel",
    "read_scan": "medseg.data.io.readers",
    "reader_for": "medseg.data.io.readers",
    "split_selector": "medseg.data.io.path_selectors",
    "write_nifti": "medseg.data.io.nifti",
}

__all__ = [
    "READERS",
    "DicomReader",
    "ImageStackReader",
    "ItkReader",
    "NiftiReader",
    "NumpyReader",
    "PictureReader",
    "Reader",
    "TiffReader",
    "convert_channels",
    "image_stem",
    "is_image_file",
    "output_suffix",
    "read_image",
    "read_scan",
    "reader_for",
    "split_selector",
    "write_nifti",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'medseg.data.io' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
