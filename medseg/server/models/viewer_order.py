"""The order in which viewers keep voxels: x fastest, slices ascending along row × column direction."""

from __future__ import annotations

import numpy as np

from medseg.data.scans import Scan
from medseg.geometry import LPS_TO_RAS, Array


def slices_descend(scan: Scan) -> bool:
    """Whether the slices of a volume run against the product of its row and column direction.

    Example:
        >>> from pathlib import Path
        >>> from medseg.geometry import Grid
        >>> volume = np.zeros((1, 2, 3, 4))
        >>> left_posterior_superior = Grid((2, 3, 4), np.diag([-1.0, -1.0, 1.0, 1.0]))
        >>> slices_descend(Scan(volume, left_posterior_superior, "volume", Path("a.nrrd")))
        False
    """
    if scan.kind != "volume":
        return False
    axes = (LPS_TO_RAS @ scan.grid.affine)[:3, :3]
    return bool(np.linalg.det(axes) < 0)


def to_viewer(label_map: Array, scan: Scan) -> Array:
    """Return a label map (*S) as (X, Y, Z) in a viewer's order of slices."""
    if scan.kind == "picture":
        return label_map.T[..., None]
    return label_map[:, :, ::-1] if slices_descend(scan) else label_map


def from_viewer(values: Array, scan: Scan) -> Array:
    """Return voxels in a viewer's order, x fastest, as label map (*S)."""
    if scan.kind == "picture":
        return values.reshape(scan.grid.shape)
    volume = values.reshape(scan.grid.shape, order="F")
    return volume[:, :, ::-1] if slices_descend(scan) else volume


def from_viewer_position(position: tuple[float, ...], scan: Scan, *, ascending: bool) -> tuple[float, ...]:
    """Return a viewer's position (x, y, z) as position in the scan's array.

    Args:
        position: voxel of the viewer's volume; z may be missing for pictures.
        scan: the scan.
        ascending: whether the viewer sorts slices (:func:`slices_descend`), or keeps the order of the file.
    """
    if scan.kind == "picture":
        return (position[1], position[0])
    x, y, z = position
    if ascending and slices_descend(scan):
        z = scan.grid.shape[2] - 1 - z
    return (x, y, z)
