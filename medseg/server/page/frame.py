"""The axes of the page: volumes in (right, anterior, superior) order, pictures and stacks as they are seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from nibabel.orientations import io_orientation

from medseg.data.io.image_stacks import ImageStackReader, TiffReader
from medseg.data.io.readers import reader_for
from medseg.data.scans import Scan
from medseg.geometry import Array
from medseg.prompts import Box, Lasso, Point, Prompt, Scribble

Value = TypeVar("Value")


@dataclass(frozen=True)
class Frame:
    """How the axes (x, y, z) of the page follow from the axes of an array.

    Attributes:
        shape: of the array, (\\*S).
        axes: array axis of each axis of the page; a picture has two.
        flips: whether an axis of the page runs against that of the array.
        spacing: mm (pictures: 1 or the file's unit) along x, y, z.
        is_patient: whether the axes run right, anterior, superior; otherwise x runs right, y down (screen).

    Example:
        >>> frame = Frame((2, 3), (1, 0), (False, False), (1.0, 1.0, 1.0), False)  # a picture of 2 rows
        >>> frame.to_page(np.array([[1, 2, 3], [4, 5, 6]])).shape
        (3, 2, 1)
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    spacing: tuple[float, float, float]
    is_patient: bool

    @classmethod
    def of(cls, scan: Scan) -> Frame:
        """Return the frame of a scan."""
        shape, spacing = scan.grid.shape, scan.grid.spacing
        if len(shape) == 2:
            return cls(shape, (1, 0), (False, False), (spacing[1], spacing[0], 1.0), False)
        if isinstance(reader_for(scan.path), TiffReader | ImageStackReader):
            return cls(shape, (0, 1, 2), (False,) * 3, (spacing[0], spacing[1], spacing[2]), False)
        orientation = io_orientation(scan.grid.affine)  # rows: array axes; columns: RAS axis, direction
        axes = tuple(int(axis) for axis in np.argsort(orientation[:, 0]))
        flips = tuple(bool(orientation[axis, 1] < 0) for axis in axes)
        return cls(shape, axes, flips, (spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]), True)

    @property
    def page_shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z; one along z for a picture."""
        sizes = [self.shape[axis] for axis in self.axes]
        return (sizes[0], sizes[1], sizes[2] if len(sizes) > 2 else 1)

    def to_page(self, array: Array) -> Array:
        """Return a view (X, Y, Z) of an array (\\*S), or (X, Y, Z, C) of an array (\\*S, C)."""
        n = len(self.shape)
        turned = array.transpose(*self.axes, *range(n, array.ndim))
        turned = turned[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]
        return turned if n > 2 else turned[:, :, None]

    def from_page(self, array: Array) -> Array:
        """Return an array (X, Y, Z) of the page in the order of the file, (\\*S)."""
        array = array if len(self.shape) > 2 else array[:, :, 0]
        array = array[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]
        return np.ascontiguousarray(array.transpose(np.argsort(self.axes)))

    def voxels_from_page(self, positions: Array, offset: int = 1) -> Array:
        """Return positions (N, 3) of the page as positions of the array, (N, D).

        Args:
            positions: voxels, or edges of voxels.
            offset: 1 for voxels, 0 for edges, which lie between voxels.
        """
        turned = np.empty((len(positions), len(self.shape)), positions.dtype)
        for page_axis, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            column = positions[:, page_axis]
            turned[:, axis] = self.shape[axis] - offset - column if flip else column
        return turned

    def slice_from_page(self, page_axis: int, index: int) -> tuple[int, int]:
        """Return the array axis and the index of a slice of the page."""
        axis = self.axes[page_axis]
        return axis, self.shape[axis] - 1 - index if self.flips[page_axis] else index

    def prompt_from_page(self, prompt: Prompt) -> Prompt:
        """Return a prompt of the page, whose positions are (x, y, z), as a prompt of the array.

        The vertices of a lasso are edges of voxels on the page, where the center of voxel 0 is at 0.5; in the
        array it is at 0.
        """
        if isinstance(prompt, Point):
            position = self.voxels_from_page(np.array([prompt.position], float))[0]
            return Point(tuple(float(one) for one in position), prompt.positive)
        if isinstance(prompt, Scribble):
            return Scribble(self.voxels_from_page(prompt.voxels), prompt.positive)
        if isinstance(prompt, Box):
            corners = self.voxels_from_page(np.array([prompt.lower, prompt.upper]), offset=0)
            lower, upper = corners.min(axis=0), corners.max(axis=0)
            return Box(tuple(int(one) for one in lower), tuple(int(one) for one in upper), prompt.positive)
        return self._lasso_from_page(prompt)

    def _lasso_from_page(self, lasso: Lasso) -> Lasso:
        assert lasso.axis is not None
        assert lasso.index is not None
        vertices = np.full((len(lasso.vertices), 3), float(lasso.index))
        vertices[:, [axis for axis in range(3) if axis != lasso.axis]] = lasso.vertices - 0.5
        turned = self.voxels_from_page(vertices)
        if len(self.shape) == 2:
            return Lasso(turned, positive=lasso.positive)
        axis, index = self.slice_from_page(lasso.axis, lasso.index)
        return Lasso(np.delete(turned, axis, axis=1), axis, index, lasso.positive)


def drop_axis(prompt: Prompt, axis: int) -> Prompt:
    """Return a prompt of a volume as a prompt of one of its slices.

    Args:
        prompt: in the order of the array's axes.
        axis: array axis that the slice is perpendicular to.
    """
    if isinstance(prompt, Point):
        return Point(_without(prompt.position, axis), prompt.positive)
    if isinstance(prompt, Box):
        return Box(_without(prompt.lower, axis), _without(prompt.upper, axis), prompt.positive)
    if isinstance(prompt, Scribble):
        return Scribble(np.delete(prompt.voxels, axis, axis=1), prompt.positive)
    return Lasso(prompt.vertices, positive=prompt.positive)


def _without(values: Sequence[Value], axis: int) -> tuple[Value, ...]:
    return tuple(value for i, value in enumerate(values) if i != axis)
