"""Grids: where the voxels of an array lie in space, and how an array moves from one grid to another.

Arrays are (C, *S). A volume's affine is 4×4 and maps voxel indices to RAS millimetres (nibabel's frame).
A picture's affine is 3×3 and maps (row, column) to pixels, spacing 1 unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

Array = NDArray[Any]

SPACING_TOLERANCE = 1e-3
"""Relative difference of spacings below which two spacings count as the same."""


@dataclass(frozen=True)
class Grid:
    """The shape of an array's spatial axes and the affine that places them.

    Attributes:
        shape: spatial shape, *S.
        affine: (n+1, n+1) float64, voxel index to mm (volumes: RAS).
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
        """The grid of a picture of (height, width) pixels."""
        return cls((height, width), np.diag([*spacing, 1.0]))


def invertible(affine: Array) -> bool:
    """Whether an affine is finite and its axes span space, whatever their unit."""
    axes = affine[:-1, :-1]
    lengths = np.sqrt((axes**2).sum(axis=0))
    return bool(np.isfinite(affine).all() and (lengths > 0).all() and abs(np.linalg.det(axes / lengths)) > 1e-6)


def grid_distance_mm(a: Grid, b: Grid) -> float:
    """The largest distance in mm between the same corner voxel of two grids of equal shape."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in a.shape], indexing="ij")).reshape(len(a.shape), -1)
    homogeneous = np.vstack([corners, np.ones(corners.shape[1])])
    difference = (a.affine - b.affine) @ homogeneous
    return float(np.linalg.norm(difference[:-1], axis=0).max())


def grids_agree(a: Grid, b: Grid) -> bool:
    """Whether two grids have one shape and no corner further apart than a tenth of the finest spacing."""
    return a.shape == b.shape and grid_distance_mm(a, b) <= 0.1 * min(a.spacing)


def describe_difference(a: Grid, b: Grid) -> str:
    """How grid ``b`` differs from grid ``a``, for an error message."""
    if a.shape != b.shape:
        return f"shapes differ: {_by(a.shape)} and {_by(b.shape)}"
    return f"the grids are {grid_distance_mm(a, b):.3g} mm apart at the farthest corner"


def to_ras(array: Array, affine: Array) -> tuple[Array, Array]:
    """Permute and flip a (C, X, Y, Z) array so that its axes run closest to right, anterior, superior.

    No voxel is interpolated. Returns the array (a view) and its new affine.
    """
    ornt = io_orientation(affine)
    return _reorient(array, affine, ornt)


def from_ras(array: Array, grid: Grid) -> Array:
    """Undo :func:`to_ras`: bring a (C, X, Y, Z) RAS+ array back to the axis order of ``grid``."""
    ornt = ornt_transform(axcodes2ornt(("R", "A", "S")), io_orientation(grid.affine))
    return _reorient(array, np.eye(4), ornt)[0]


def _reorient(array: Array, affine: Array, ornt: Array) -> tuple[Array, Array]:
    """A view of a (C, X, Y, Z) array, its channels where they were."""
    with_channels = np.concatenate([[[0, 1]], ornt + np.array([1, 0])])
    return apply_orientation(array, with_channels), affine @ inv_ornt_aff(ornt, array.shape[1:])


def turned_onto(array: Array, grid: Grid, like: Grid) -> tuple[Array, Grid]:
    """Permute and flip a (C, X, Y, Z) array so that its axes run as those of ``like``; nothing is interpolated.

    Returns the array (a view) and its new grid.
    """
    ornt = ornt_transform(io_orientation(grid.affine), io_orientation(like.affine))
    turned, affine = _reorient(array, grid.affine, ornt)
    return turned, Grid(turned.shape[1:], affine)


def same_spacing(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two spacings are equal to a relative ``SPACING_TOLERANCE``."""
    return len(a) == len(b) and bool(np.allclose(a, b, rtol=SPACING_TOLERANCE, atol=0))


def resampled_grid(grid: Grid, spacing: tuple[float, ...]) -> Grid:
    """The grid that covers the same field of view as ``grid`` at another spacing, axes kept.

    The outer faces of the first voxels stay in place; the shape is rounded, at least one voxel an axis.
    """
    old = np.array(grid.spacing)
    shape = np.maximum(1, np.round(np.array(grid.shape) * old / np.array(spacing))).astype(int)
    zoom = np.array(grid.shape) / shape  # old voxels per new voxel; the field of view is kept exactly
    n = len(grid.shape)
    affine = grid.affine.copy()
    affine[:n, :n] = grid.affine[:n, :n] * zoom
    affine[:n, n] = grid.affine[:n, n] + grid.affine[:n, :n] @ ((zoom - 1) / 2)
    return Grid(tuple(int(s) for s in shape), affine)


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape)


def is_mirror_image(flips: Sequence[int], matrix: Array | None = None) -> bool:
    """Whether a change of an image turns it into a mirror image, in which left and right are exchanged.

    Mirroring one axis, whichever it is, is mirroring the body along its left-right axis followed by a rotation;
    mirroring two axes is a rotation by 180°, which leaves left and right as they are. The determinant decides.

    Args:
        flips: the axes that are mirrored.
        matrix: (N, N), a linear change besides; none is the identity.
    """
    mirrored = len(flips) % 2 == 1
    return mirrored if matrix is None else mirrored != bool(np.linalg.det(matrix) < 0)
