"""Voxel grids: where the voxels of an array lie in space, and how an array moves from one grid to another.

Arrays are ``(C, *S)``. The affine of a volume is 4×4 and maps voxel indices to RAS millimeters (the frame of
nibabel). The affine of a picture is 3×3 and maps (row, column) to pixels; its spacing is 1 by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

Array = NDArray[Any]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Maps homogeneous LPS coordinates (left, posterior, superior: DICOM and ITK) to RAS coordinates, and back."""

SPACING_TOLERANCE = 1e-3
"""Relative difference up to which two spacings count as equal."""

_GRID_TOLERANCE = 0.1
"""Distance between corner voxels up to which two grids count as equal, as a share of the smallest spacing."""


@dataclass(frozen=True)
class Grid:
    """The shape of an array's spatial axes and the affine that locates them in space.

    Attributes:
        shape: spatial shape ``*S``.
        affine: (n + 1, n + 1) float64, voxel index to mm (volumes: RAS).

    Example:
        >>> grid = Grid((4, 4, 2), np.diag([0.5, 0.5, 2.0, 1.0]))
        >>> grid.spacing
        (0.5, 0.5, 2.0)
        >>> Grid.picture(480, 640).shape
        (480, 640)
    """

    shape: tuple[int, ...]
    affine: Array

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighboring voxels along each array axis, mm."""
        n = len(self.shape)
        return tuple(float(s) for s in np.sqrt((self.affine[:n, :n] ** 2).sum(axis=0)))

    @classmethod
    def picture(cls, height: int, width: int, spacing: tuple[float, ...] = (1.0, 1.0)) -> Grid:
        """Create the grid of a picture of ``height`` × ``width`` pixels."""
        return cls((height, width), np.diag([*spacing, 1.0]))


def is_invertible(affine: Array) -> bool:
    """Whether an affine is finite and its axes span space, independent of their unit."""
    axes = affine[:-1, :-1]
    lengths = np.sqrt((axes**2).sum(axis=0))
    return bool(np.isfinite(affine).all() and (lengths > 0).all() and abs(np.linalg.det(axes / lengths)) > 1e-6)


def max_corner_distance_mm(a: Grid, b: Grid) -> float:
    """The largest distance between corresponding corner voxels of two grids of equal shape, in mm."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in a.shape], indexing="ij")).reshape(len(a.shape), -1)
    homogeneous = np.vstack([corners, np.ones(corners.shape[1])])
    difference = (a.affine - b.affine) @ homogeneous
    return float(np.linalg.norm(difference[:-1], axis=0).max())


def grids_agree(a: Grid, b: Grid) -> bool:
    """Whether two grids have equal shapes and corner voxels at most a tenth of the smallest spacing apart.

    Example:
        >>> grid = Grid((4, 4, 2), np.eye(4))
        >>> moved = np.eye(4)
        >>> moved[0, 3] = 0.5  # mm
        >>> grids_agree(grid, Grid((4, 4, 2), moved))
        False
    """
    return a.shape == b.shape and max_corner_distance_mm(a, b) <= _GRID_TOLERANCE * min(a.spacing)


def describe_grid_difference(a: Grid, b: Grid) -> str:
    """Describe how grid ``b`` differs from grid ``a``, for an error message."""
    if a.shape != b.shape:
        return f"shapes differ: {_format_shape(a.shape)} and {_format_shape(b.shape)}"
    return f"the grids are {max_corner_distance_mm(a, b):.3g} mm apart at the farthest corner"


def to_ras(array: Array, affine: Array) -> tuple[Array, Array]:
    """Permute and flip a (C, X, Y, Z) array so that its axes run closest to right, anterior, superior.

    Voxels are not interpolated.

    Args:
        array: (C, X, Y, Z).
        affine: (4, 4), voxel index to RAS mm.

    Returns:
        The reoriented array (a view) and its affine.

    Example:
        >>> array = np.arange(4).reshape(1, 4, 1, 1)
        >>> reoriented, affine = to_ras(array, np.diag([-1.0, 1.0, 1.0, 1.0]))  # the X axis runs to the left
        >>> reoriented.ravel().tolist()
        [3, 2, 1, 0]
    """
    return _reorient(array, affine, io_orientation(affine))


def ras_order(grid: Grid) -> tuple[int, int, int]:
    """Return the array axes of a volume that run closest to right, anterior and superior, in this order.

    Example:
        >>> ras_order(Grid((4, 5, 6), np.eye(4)[[2, 0, 1, 3]]))
        (2, 0, 1)
    """
    right, anterior, superior = np.argsort(io_orientation(grid.affine)[:, 0])
    return int(right), int(anterior), int(superior)


def from_ras(array: Array, grid: Grid) -> Array:
    """Undo :func:`to_ras`: bring a (C, X, Y, Z) RAS+ array back to the axis order of ``grid``."""
    orientation = ornt_transform(axcodes2ornt(("R", "A", "S")), io_orientation(grid.affine))
    return _reorient(array, np.eye(4), orientation)[0]


def _reorient(array: Array, affine: Array, orientation: Array) -> tuple[Array, Array]:
    """Reorient the spatial axes of a (C, X, Y, Z) array; returns a view and its affine."""
    with_channels = np.concatenate([[[0, 1]], orientation + np.array([1, 0])])
    return apply_orientation(array, with_channels), affine @ inv_ornt_aff(orientation, array.shape[1:])


def reorient_like(array: Array, grid: Grid, like: Grid) -> tuple[Array, Grid]:
    """Permute and flip a (C, X, Y, Z) array on ``grid`` so that its axes run as those of ``like``.

    Voxels are not interpolated. Returns the array (a view) and its grid.
    """
    orientation = ornt_transform(io_orientation(grid.affine), io_orientation(like.affine))
    reoriented, affine = _reorient(array, grid.affine, orientation)
    return reoriented, Grid(reoriented.shape[1:], affine)


def same_spacing(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two spacings are equal up to a relative ``SPACING_TOLERANCE``."""
    return len(a) == len(b) and bool(np.allclose(a, b, rtol=SPACING_TOLERANCE, atol=0))


def resampled_grid(grid: Grid, spacing: tuple[float, ...]) -> Grid:
    """Compute the grid that covers the field of view of ``grid`` at another spacing, along the same axes.

    The outer faces of the first voxels stay in place. The shape is rounded, with at least one voxel per axis,
    so that the resulting spacing may differ slightly from the requested one.

    Args:
        grid: the original grid.
        spacing: requested spacing along each axis, mm.

    Example:
        >>> resampled = resampled_grid(Grid((10, 10, 4), np.diag([1.0, 1.0, 5.0, 1.0])), (2.0, 2.0, 2.0))
        >>> resampled.shape, resampled.spacing
        ((5, 5, 10), (2.0, 2.0, 2.0))
    """
    old = np.array(grid.spacing)
    shape = np.maximum(1, np.round(np.array(grid.shape) * old / np.array(spacing))).astype(int)
    zoom = np.array(grid.shape) / shape  # old voxels per new voxel; preserves the field of view exactly
    n = len(grid.shape)
    affine = grid.affine.copy()
    affine[:n, :n] = grid.affine[:n, :n] * zoom
    affine[:n, n] = grid.affine[:n, n] + grid.affine[:n, :n] @ ((zoom - 1) / 2)
    return Grid(tuple(int(s) for s in shape), affine)


def _format_shape(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape)


def is_mirror_image(flips: Sequence[int], matrix: Array | None = None) -> bool:
    """Whether a spatial transform yields a mirror image, in which left and right are exchanged.

    Flipping one axis, whichever it is, equals mirroring the body along its left-right axis followed by a
    rotation. Flipping two axes is a rotation by 180°, which preserves left and right. The sign of the
    determinant decides.

    Args:
        flips: the flipped axes.
        matrix: (n, n) linear part of the transform; the identity if None.

    Example:
        >>> is_mirror_image([0]), is_mirror_image([0, 1])
        (True, False)
    """
    mirrored = len(flips) % 2 == 1
    return mirrored if matrix is None else mirrored != bool(np.linalg.det(matrix) < 0)
