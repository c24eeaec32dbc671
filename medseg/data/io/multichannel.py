"""The image of a case: one file, or several files that are its channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.dicom.series import UnevenSlices
from medseg.data.io.pictures import apply_palette
from medseg.data.io.readers import read_scan
from medseg.data.scans import Scan, align_to_grid
from medseg.errors import GeometryError
from medseg.geometry import Array


def read_image(case: Case, uneven: UnevenSlices = "refuse") -> Scan:
    """Read the image of a case and stack the channels of several files on the grid of the first.

    Args:
        case: the case.
        uneven: handling of DICOM series with unevenly spaced slices.

    Raises:
        DataError: as :func:`medseg.data.io.readers.read_scan`.
        GeometryError: if the grids of the files differ.
    """
    first = read_scan(case.image, uneven=uneven)
    if not case.other_channels:
        return first
    arrays = [_channels(first)]
    for path in case.other_channels:
        try:
            arrays.append(_channels(align_to_grid(read_scan(path, uneven=uneven), first.grid)))
        except GeometryError as error:
            raise GeometryError(
                f"channels on different grids: {error.message} ({case.image.name}, {path.name})",
                hint="Resample them to one grid.",
                path=path,
            ) from error
    header = None if first.kind == "picture" else first.header  # a palette belongs to one file
    return replace(first, array=np.concatenate(arrays), header=header)


def describe_constant_image(scan: Scan) -> str | None:
    """Describe a scan whose channels are all constant; None if a channel varies."""
    values: list[float] = []
    for channel in scan.array:
        least = channel.min()
        if least != channel.max():
            return None
        values.append(least.item())
    what = "pixel" if scan.kind == "picture" else "voxel"
    if len(set(values)) == 1:
        return f"every {what} has the value {values[0]:g}"
    return f"every {what} has the values {', '.join(f'{value:g}' for value in values)}"


def _channels(scan: Scan) -> Array:
    """The channels (C, *S) of one of several files; a palette of gray values is one channel."""
    if scan.kind != "picture":
        return scan.array
    array = apply_palette(scan)
    gray = isinstance(scan.header, list) and np.array_equal(array[:1].repeat(3, axis=0), array)
    return array[:1] if gray else array
