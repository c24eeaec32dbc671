"""A scan in memory: its voxels, the grid they lie on, and what is needed to write a label map beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.errors import DataError, GeometryError, NonFiniteError
from medseg.geometry import Array, Grid, describe_grid_difference, grids_agree, reorient_like

Kind = Literal["volume", "picture"]

_WHOLE = 1e-3
"""How far a label value may lie from a whole number: the rounding of a scale such as 1/255 in a header."""


@dataclass(frozen=True)
class Scan:
    """Voxels as they are in the file, with their grid.

    Attributes:
        array: (C, *S), of the file's own type.
        grid: spatial shape and affine.
        kind: ``volume`` (3D, mm) or ``picture`` (2D, pixels).
        path: the file it was read from.
        header: the file's own header, kept so that a label map can be written on exactly its grid.
        notes: what had to be done to read it.
        modality: as the file declares it, in DICOM's terms (``CT``, ``MR``), where it does.
    """

    array: Array
    grid: Grid
    kind: Kind
    path: Path
    header: Any = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    modality: str | None = None

    @property
    def spatial_dims(self) -> int:
        """2 for pictures, 3 for volumes."""
        return len(self.grid.shape)


class SingleFileReader:
    """A reader whose images are one file each."""

    def files(self, path: Path) -> list[Path]:
        """The file itself."""
        return [path]


def check_finite(scan: Scan) -> None:
    """Refuse a scan with NaN or infinite voxels.

    Raises: DataError naming the file, how many voxels, and where the first one is.
    """
    if not np.issubdtype(scan.array.dtype, np.floating):
        return
    bad = ~np.isfinite(scan.array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0][1:])
        raise NonFiniteError(
            f"{scan.path}: {int(bad.sum())} voxels are NaN or infinite, the first at {first}",
            hint="Replace them, for example by the scan's minimum.",
            path=scan.path,
        )


def align_to_grid(label: Scan, grid: Grid) -> Scan:
    """A label volume stored along other axes than its image, turned to run along them; others as they are.

    A picture that states no spacing (PNG has none) lies on the image's grid if it has its shape.

    Raises: GeometryError if its grid is not ``grid`` then.
    """
    if label.kind == "picture" and label.grid.shape == grid.shape and set(label.grid.spacing) == {1.0}:
        return replace(label, grid=grid)
    if label.kind == "volume" and len(grid.shape) == 3 and not grids_agree(label.grid, grid):
        array, turned = reorient_like(label.array, label.grid, grid)
        if grids_agree(turned, grid):
            return Scan(array, grid, label.kind, label.path, label.header)
    if not grids_agree(label.grid, grid):
        raise GeometryError(describe_grid_difference(grid, label.grid))
    return label


def as_label_map(scan: Scan) -> Array:
    """The scan's voxels as an integer label map (*S).

    Raises: DataError if it has several channels that differ, or values that are not whole numbers.
    """
    array = scan.array
    if len(array) > 1:
        if not all(np.array_equal(array[0], channel) for channel in array[1:]):
            raise DataError(
                f"{scan.path}: a label map has one channel, this file has {len(array)} different ones. "
                "Save it as one channel of label values (PNG: gray or palette), or name its colors under "
                "data.labels.colors."
            )
        array = array[:1]
    values = array[0]
    if values.dtype == bool:
        return values.astype(np.uint8)
    if np.issubdtype(values.dtype, np.integer):
        return values
    check_finite(scan)
    rounded = np.rint(values)
    broken = np.abs(rounded - values) > _WHOLE
    if broken.any():
        raise DataError(
            f"{scan.path}: label values must be whole numbers, found {values[broken].flat[0]:.6g}. "
            "Was the label map interpolated? Resample it with nearest neighbor. Are they probabilities? Set "
            "data.labels.soft=true."
        )
    if np.abs(rounded).max() > 2**53:
        raise DataError(f"{scan.path}: label values up to {rounded.max():.3g} are too large to be labels")
    return rounded.astype(np.int64)
