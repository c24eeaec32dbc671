"""``Frame``: where the voxels of a window lie in a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """Maps positions in a scan to positions in a window over it.

    A window has the axes of a scan in any order and direction, and voxels of another size. Voxel i of an axis
    covers [i, i + 1) between its faces; its center is the position i.

    Attributes:
        shape: (*W) voxels of the window.
        axes: for each axis of the window, the axis of the scan.
        flipped: for each axis of the window, whether it runs backwards in the scan.
        length: for each axis of the window, the voxels of the scan along it.
        start: first face of the window along each of its axes, in voxels of the scan, in the direction of the
            window.
        scale: voxels of the window per voxel of the scan, along each axis of the window.

    Example:
        >>> frame = Frame.of_window((8, 8), start=(10, 20), scale=(0.5, 0.5))
        >>> frame.positions(np.array([[10.5, 22.5]])).tolist()  # between the first two voxels of a row
        [[0.0, 1.0]]
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    flipped: tuple[bool, ...]
    length: tuple[int, ...]
    start: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def of_array(cls, shape: tuple[int, ...]) -> Frame:
        """Return the frame of a window that is the whole array (*S)."""
        return cls.of_window(shape, (0.0,) * len(shape), (1.0,) * len(shape))

    @classmethod
    def of_window(cls, shape: tuple[int, ...], start: tuple[float, ...], scale: tuple[float, ...]) -> Frame:
        """Return the frame of a window with the axes of the scan."""
        axes = tuple(range(len(shape)))
        return cls(shape, axes, (False,) * len(shape), (0,) * len(shape), start, scale)

    def faces(self, edges: Floats) -> Floats:
        """Map edges (N, D), at which the voxel i begins at i, to edges in the window (N, D)."""
        turned = np.asarray(edges, np.float64)[:, list(self.axes)]
        turned = np.where(self.flipped, np.array(self.length) - turned, turned)
        return (turned - np.array(self.start)) * np.array(self.scale)

    def positions(self, positions: Floats) -> Floats:
        """Map positions (N, D), at which voxel i has its center at i, to positions in the window (N, D)."""
        return self.faces(np.asarray(positions, np.float64) + 0.5) - 0.5

    def box(self, lower: Floats, upper: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Map a box of whole voxels (D,) to the box in the window that is nearest, at least one voxel thick."""
        faces = np.sort(self.faces(np.stack([lower, upper])), axis=0)
        first = np.floor(faces[0] + 0.5).astype(np.int64)
        stop = np.floor(faces[1] + 0.5).astype(np.int64)
        thin = stop <= first
        first = np.where(thin, np.floor(faces.mean(axis=0)), first).astype(np.int64)
        return first, np.maximum(stop, first + 1)
