"""File formats: reading images into :class:`~medseg.data.scans.Scan` objects and writing label maps.

``read_scan`` reads any supported file or folder. Each format has a reader in its own module; ``READERS`` lists
them.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.data.io.dicom.series": ("DicomReader",),
        "medseg.data.io.image_stacks": ("ImageStackReader", "TiffReader"),
        "medseg.data.io.itk": ("ItkReader",),
        "medseg.data.io.multichannel": ("read_image",),
        "medseg.data.io.nifti": ("NiftiReader", "write_nifti"),
        "medseg.data.io.numpy_reader": ("NumpyReader",),
        "medseg.data.io.path_selectors": ("split_selector",),
        "medseg.data.io.pictures": ("PictureReader", "convert_channels"),
        "medseg.data.io.readers": (
            "READERS",
            "Reader",
            "image_stem",
            "is_image_file",
            "output_suffix",
            "read_scan",
            "reader_for",
        ),
    },
)
