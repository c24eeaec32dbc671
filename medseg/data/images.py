"""The image of a case: one file, or several of one channel each on one grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medseg.data.cases import Case
from medseg.data.dicom import Uneven
from medseg.data.readers import read_scan
from medseg.data.scans import Scan, onto_grid
from medseg.errors import GeometryError


def read_image(case: Case, uneven: Uneven = "refuse") -> Scan:
    """Read a case's image; the channels of several files are stacked on the first one's grid.

    ``uneven`` says what to do with DICOM series whose slices lie unevenly.

    Raises: DataError as :func:`medseg.data.readers.read_scan`; GeometryError if the files' grids differ.
    """
    first = read_scan(case.image, uneven=uneven)
    if not case.other_channels:
        return first
    arrays = [first.array]
    for path in case.other_channels:
        try:
            arrays.append(onto_grid(read_scan(path, uneven=uneven), first.grid).array)
        except GeometryError as error:
            raise GeometryError(
                f"its channels lie on different grids: {error} ({case.image.name}, {path.name}). Resample them "
                "onto one grid."
            ) from error
    return replace(first, array=np.concatenate(arrays))
