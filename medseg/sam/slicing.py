"""``Slicing``: the slices of a volume as the pictures a SAM sees, and prompts on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from medseg.geometry import Array, Grid, ras_order
from medseg.prompts import Box, Lasso, Point, Prompt, Scribble
from medseg.sam.pictures import percentile_window, to_colors

_ANISOTROPIC = 1.5
"""Ratio of the largest to the second largest spacing from which slices are cut along the largest."""


@dataclass(frozen=True)
class Slicing:
    """Slices of a scan; a picture is one slice.

    Slices of a volume are turned as radiologists see them: the patient's right side (in sagittal slices, the
    front) at the left, the head (in axial slices, the front) at the top.

    Attributes:
        shape: of the scan, \\*S.
        axis: axis across the slices; None for a picture.
        rows, columns: axes of the scan along which the rows and the columns of a slice are counted.
        flips: whether the rows and the columns run against their axes.

    Example:
        >>> slicing = Slicing.of_volume(Grid((4, 5, 6), np.eye(4)))
        >>> slicing.axis, slicing.position((1, 2, 3))
        (2, (3, (2.0, 2.0)))
    """

    shape: tuple[int, ...]
    axis: int | None = None
    rows: int = 0
    columns: int = 1
    flips: tuple[bool, bool] = (False, False)

    @classmethod
    def of_volume(cls, grid: Grid, axis: int | None = None) -> Slicing:
        """Return the slices of a volume.

        Args:
            grid: shape and affine of the volume.
            axis: axis across the slices; None: the one with by far the largest spacing, else the one closest
                to the body's axis.
        """
        order = ras_order(grid)  # array axes of right, anterior, superior
        if axis is None:
            spacing = sorted(grid.spacing)
            thick = spacing[-1] > _ANISOTROPIC * spacing[-2]
            axis = int(np.argmax(grid.spacing)) if thick else order[2]
        columns, rows = (one for one in order if one != axis)
        return cls(grid.shape, axis, rows, columns, (_runs_up(grid, rows), _runs_up(grid, columns)))

    def __len__(self) -> int:
        """Number of slices."""
        return 1 if self.axis is None else self.shape[self.axis]

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width of a slice."""
        return self.shape[self.rows], self.shape[self.columns]

    def view(self, array: Array, index: int) -> Array:
        """Return a slice of an array (\\*S) or (C, \\*S) as a view (H, W) or (C, H, W) to read or write."""
        offset = array.ndim - len(self.shape)
        axes = [*range(offset), offset + self.rows, offset + self.columns]
        if self.axis is not None:
            axes.append(offset + self.axis)
        turned = array.transpose(axes)
        plane = turned if self.axis is None else turned[..., index]
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return plane[(..., *steps)]

    def places(self, voxels: Array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the slices (N,) of voxels (N, D), and their rows and columns there, (N, 2)."""
        values = np.asarray(voxels, np.float64)
        if self.axis is None:
            indices = np.zeros(len(values), np.int64)
        else:
            indices = np.clip(np.rint(values[:, self.axis]), 0, len(self) - 1).astype(np.int64)
        places = values[:, [self.rows, self.columns]]
        for side, (flip, length) in enumerate(zip(self.flips, self.plane, strict=True)):
            if flip:
                places[:, side] = length - 1 - places[:, side]
        return indices, places

    def position(self, position: Sequence[float]) -> tuple[int, tuple[float, float]]:
        """Return the slice of a voxel, and its row and column there."""
        indices, places = self.places(np.array([position]))
        return int(indices[0]), (float(places[0, 0]), float(places[0, 1]))


@dataclass(frozen=True)
class PlanePrompts:
    """Prompts on one slice, in its rows and columns.

    Attributes:
        points: (N, 2) positions.
        positive: (N,) whether they are on the object.
        box: first row and column, last row and column; None without a box.
        area: (H, W) mask drawn with a lasso; None without one.
        excluded: (H, W) mask of what does not belong to the object; None without one.
    """

    points: NDArray[np.float64]
    positive: NDArray[np.bool_]
    box: NDArray[np.float64] | None = None
    area: NDArray[np.bool_] | None = None
    excluded: NDArray[np.bool_] | None = None

    @classmethod
    def none(cls) -> PlanePrompts:
        """Return no prompts."""
        return cls(np.empty((0, 2)), np.empty(0, bool))

    def joined(self, other: PlanePrompts) -> PlanePrompts:
        """Return these prompts and later ones: points and areas add up, the last box counts."""
        return PlanePrompts(
            np.concatenate([self.points, other.points]),
            np.concatenate([self.positive, other.positive]),
            self.box if other.box is None else other.box,
            _union(self.area, other.area),
            _union(self.excluded, other.excluded),
        )

    @property
    def has_object(self) -> bool:
        """Whether something marks the object itself."""
        return bool(self.positive.any()) or self.box is not None or self.area is not None


def required_axis(prompt: Prompt) -> int | None:
    """Return the axis across the slice that a prompt on a volume is drawn in, if it is drawn in one."""
    if isinstance(prompt, Lasso):
        return prompt.axis
    if isinstance(prompt, Box):
        flat = [axis for axis, (a, b) in enumerate(zip(prompt.lower, prompt.upper, strict=True)) if b - a == 1]
        return flat[0] if len(flat) == 1 and len(prompt.lower) == 3 else None
    return None


def split_prompt(prompt: Prompt, slicing: Slicing, points: int) -> dict[int, PlanePrompts]:
    """Convert a prompt to prompts on slices.

    A scribble becomes points that lie far from each other. A lasso becomes a mask and its box if it is drawn in
    a slice, else it is treated like a scribble over its area. A box over several slices is put on the middle
    one. What does not belong to the object becomes points, a lasso also an area that is left out.

    Args:
        prompt: in voxels of the scan.
        slicing: the slices.
        points: largest number of points of a scribble or an area on a slice.

    Returns:
        Slice → its prompts.
    """
    if isinstance(prompt, Point):
        index, place = slicing.position(prompt.position)
        return {index: _points(np.array([place]), prompt.positive)}
    if isinstance(prompt, Box):
        return _split_box(prompt, slicing)
    if isinstance(prompt, Scribble):
        return _split_voxels(np.asarray(prompt.voxels), prompt.positive, slicing, points)
    return _split_lasso(prompt, slicing, points)


def spread_points(voxels: Array, count: int) -> Array:
    """Select points that lie far from each other (N, D): first the one nearest to the mean, then each time the
    one farthest from those selected.
    """
    values = voxels.astype(np.float64)
    chosen = [int(np.argmin(((values - values.mean(axis=0)) ** 2).sum(axis=1)))]
    distance = np.full(len(values), np.inf)
    while len(chosen) < min(count, len(values)):
        distance = np.minimum(distance, ((values - values[chosen[-1]]) ** 2).sum(axis=1))
        if not distance.max():
            break
        chosen.append(int(np.argmax(distance)))
    return voxels[chosen]


class SliceColors:
    """The slices of a scan as 8-bit pictures.

    Args:
        image: (C, \\*S).
        slicing: its slices.
        window: values that become black and white; None: 8-bit pictures are kept, other pictures are scaled
            from their smallest to their largest value, volumes by percentiles.
        channel: channel that is shown, unless the image is a color picture.
    """

    def __init__(
        self, image: Array, slicing: Slicing, window: tuple[float, float] | None = None, channel: int = 0
    ) -> None:
        self.slicing = slicing
        is_color = slicing.axis is None and len(image) == 3
        self._image = image if is_color else image[channel : channel + 1]
        if window is None and slicing.axis is not None:
            window = percentile_window(self._image)
        self._window = window

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return a slice, (H, W, 3)."""
        return to_colors(self.slicing.view(self._image, index), self._window)


def _runs_up(grid: Grid, axis: int) -> bool:
    """Whether an axis runs towards right, front or head."""
    direction = grid.affine[:3, axis]
    return bool(direction[np.argmax(np.abs(direction))] > 0)


def _union(first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    if first is None or second is None:
        return second if first is None else first
    return first | second


def _points(places: NDArray[np.float64], positive: bool) -> PlanePrompts:
    return PlanePrompts(places.reshape(-1, 2), np.full(len(places), positive))


def _split_box(box: Box, slicing: Slicing) -> dict[int, PlanePrompts]:
    lower = np.maximum(np.array(box.lower, np.float64), 0)
    last = np.minimum(np.array(box.upper, np.float64), slicing.shape) - 1
    if slicing.axis is not None:
        lower[slicing.axis] = last[slicing.axis] = (lower[slicing.axis] + last[slicing.axis]) // 2
    index, first = slicing.position(tuple(lower))
    corners = np.array([first, slicing.position(tuple(last))[1]])
    corners.sort(axis=0)
    if box.positive:
        return {index: replace(PlanePrompts.none(), box=corners.ravel())}
    middle = corners.mean(axis=0)
    inner = [middle, *((corner + middle) / 2 for corner in (corners[0], corners[1]))]
    return {index: _points(np.array(inner), positive=False)}


def _split_voxels(voxels: Array, positive: bool, slicing: Slicing, points: int) -> dict[int, PlanePrompts]:
    inside = ((voxels >= 0) & (voxels < np.array(slicing.shape))).all(axis=1)
    indices, places = slicing.places(voxels[inside])
    return {
        int(index): _points(spread_points(places[indices == index], points), positive)
        for index in np.unique(indices)
    }


def _split_lasso(lasso: Lasso, slicing: Slicing, points: int) -> dict[int, PlanePrompts]:
    """Convert a lasso to a mask and its box, or to points where it is not drawn in a slice."""
    kept = [axis for axis in range(len(slicing.shape)) if axis != lasso.axis]
    shape = tuple(slicing.shape[axis] for axis in kept)
    vertices = np.asarray(lasso.vertices, np.float64)
    inside = np.stack(polygon(vertices[:, 0], vertices[:, 1], shape), axis=1)
    if not len(inside):
        inside = np.clip(np.rint(vertices[:1]), 0, np.array(shape) - 1).astype(np.int64)
    voxels = inside if lasso.axis is None else np.insert(inside, lasso.axis, lasso.index or 0, axis=1)
    if lasso.axis != slicing.axis:
        crossed = len(np.unique(voxels[:, slicing.axis or 0]))
        return _split_voxels(spread_points(voxels, points * crossed), lasso.positive, slicing, points)
    indices, places = slicing.places(voxels)
    index = int(indices[0])
    area = np.zeros(slicing.plane, bool)
    area[tuple(places.astype(np.int64).T)] = True
    if not lasso.positive:
        return {index: replace(_points(spread_points(places, points), positive=False), excluded=area)}
    box = np.concatenate([places.min(axis=0), places.max(axis=0)])
    return {index: replace(PlanePrompts.none(), box=box, area=area)}
