"""Scans in memory: voxels, their grid, and the header needed to write a label map on the same grid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.errors import DataError, GeometryError, NonFiniteError
from medseg.geometry import Array, Grid, describe_grid_difference, grids_agree, reorient_like

Kind = Literal["volume", "picture"]

ARRAY = Path("array")
"""Path of a scan that was given as an array instead of a file."""
_MOST_CHANNELS = 4
"""Channels that an array of three axes may have to be taken as a picture."""
_WHOLE = 1e-3
"""Tolerance of label values that should be whole numbers: rounding of a scale such as 1/255 in a header."""


@dataclass(frozen=True)
class Scan:
    """Voxels as stored in a file, with their grid.

    Attributes:
        array: (C, *S), of the type in the file.
        grid: spatial shape and affine.
        kind: ``volume`` (3D, mm) or ``picture`` (2D, pixels).
        path: the file.
        header: the file's header, kept so that a label map can be written on exactly the same grid.
        notes: corrections made while reading.
        modality: modality declared by the file, in DICOM's terms (``CT``, ``MR``); None if it declares none.
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


def array_dims(array: Array, spacing: tuple[float, ...] | None = None) -> int:
    """Return the number of spatial axes of an array: 2 for a picture, 3 for a volume.

    The length of ``spacing`` tells. Without it, a picture has two axes, or three of which the first has at most
    4 channels.
    """
    if spacing is not None:
        return 2 if len(spacing) == 2 else 3
    return 2 if array.ndim == 2 or (array.ndim == 3 and len(array) <= _MOST_CHANNELS) else 3


def scan_from_array(array: Array, spatial_dims: int, spacing: tuple[float, ...] | None = None) -> Scan:
    """Return an array as a scan.

    Args:
        array: (*S) or (C, *S); of a volume, the axes are X, Y, Z in RAS+ order.
        spatial_dims: 2 for a picture, 3 for a volume; of an array that may be both, see :func:`array_dims`.
        spacing: distance between voxels along each axis of S, mm. Pictures have 1 by default; volumes need it.

    Raises:
        DataError: the array does not hold numbers or has other axes, or the spacing is missing or invalid.
    """
    kind, axes = ("picture", "H, W") if spatial_dims == 2 else ("volume", "X, Y, Z")
    where = f"array of shape {array.shape}, {array.dtype}"
    if array.ndim not in (spatial_dims, spatial_dims + 1) or not array.size or array.dtype.kind not in "buif":
        raise DataError(f"{where}: expected the numbers of a {kind}, ({axes}) or (C, {axes})")
    if spacing is None and spatial_dims == 3:
        hint = "Pass spacing=(x, y, z), the mm between voxels along each axis."
        if array.ndim == 3 and array.shape[-1] <= _MOST_CHANNELS:
            hint += " If it is a picture, move its channels first: np.moveaxis(array, -1, 0)."
        raise DataError(f"{where}: a volume without spacing", hint=hint)
    spacing = (1.0,) * spatial_dims if spacing is None else tuple(float(value) for value in spacing)
    if len(spacing) != spatial_dims or not all(0 < value < np.inf for value in spacing):
        raise DataError(f"spacing {spacing}: expected {spatial_dims} numbers above 0, in mm")
    channels = array if array.ndim == spatial_dims + 1 else array[None]
    channels = channels.astype(np.uint8) if channels.dtype == bool else channels
    grid = Grid(channels.shape[1:], np.diag([*spacing, 1.0]))
    return Scan(channels, grid, kind, ARRAY)


class SingleFileReader:
    """A reader whose images are one file each."""

    def files(self, path: Path) -> list[Path]:
        """Return the file itself."""
        return [path]


def check_finite(scan: Scan) -> None:
    """Check that no voxel is NaN or infinite.

    Raises:
        NonFiniteError: voxels are NaN or infinite; the message gives their number and the first position.
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
    """Reorient a label volume whose axes are permuted or flipped relative to its image.

    A picture that declares no spacing (PNG has none) lies on the image's grid if it has its shape.

    Returns:
        The label on ``grid``.

    Raises:
        GeometryError: the label's grid differs from ``grid`` in more than the order of its axes.
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
    """Return the voxels of a scan as an integer label map (*S).

    Raises:
        DataError: it has channels that differ, or values that are not whole numbers.
    """
    array = scan.array
    if len(array) > 1:
        if not all(np.array_equal(array[0], channel) for channel in array[1:]):
            raise DataError(
                f"{scan.path}: a label map has one channel, this file has {len(array)} different ones",
                hint="Save it as one channel of label values (PNG: gray or palette), or declare its colors "
                "under data.labels.colors.",
                path=scan.path,
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
            f"{scan.path}: label values must be whole numbers, got {values[broken].flat[0]:.6g}",
            hint="If the label map was interpolated, resample it with nearest neighbor; if it holds "
            "probabilities, set data.labels.soft=true.",
            path=scan.path,
        )
    if np.abs(rounded).max() > 2**53:
        raise DataError(f"{scan.path}: label values up to {rounded.max():.3g} are too large to be labels")
    return rounded.astype(np.int64)
