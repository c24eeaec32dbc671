"""Checks of prompts that come from outside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import DataError
from medseg.prompts.extent import prompt_box, prompt_positions
from medseg.prompts.prompts import Box, Lasso, Point, Prompt, Scribble

_MARGIN = 1.0
"""Voxels by which thin strokes may lie outside: viewers count from the corner or from the center of a voxel."""


def check_prompt(prompt: Prompt, shape: tuple[int, ...]) -> None:
    """Check that a prompt lies in a scan (*S).

    Raises:
        DataError: it has another number of axes, is empty, not of finite numbers, or lies outside; or positions
            of a stroke lie outside by more than half its width (at least a voxel); others are cut later.
    """
    dims, kind = len(shape), type(prompt).__name__.lower()
    for positions in _numbers(prompt):
        as_numbers(kind, positions)
    if isinstance(prompt, Lasso):
        _check_lasso(prompt, dims)
    elif isinstance(prompt, Scribble) and np.ndim(prompt.voxels) != 2:
        raise DataError(f"scribble: expected voxels (N, {dims}), got shape {np.shape(prompt.voxels)}")
    elif isinstance(prompt, Scribble) and not len(prompt.voxels):
        raise DataError("scribble: contains no voxel")
    elif isinstance(prompt, Box) and len(prompt.lower) != len(prompt.upper):
        raise DataError(f"box: corners with {len(prompt.lower)} and {len(prompt.upper)} axes")
    lower, upper = prompt_box(prompt)
    if lower.shape != (dims,):
        raise DataError(f"{kind}: has {lower.size} axes, the scan has {dims}")
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower < upper).all()):
        raise DataError(f"{kind}: from {lower.tolist()} to {upper.tolist()} is not a region")
    if (upper <= 0).any() or (lower > np.array(shape) - 0.5).any():
        raise DataError(f"{kind}: {lower.tolist()} lies outside the scan, which has shape {tuple(shape)}")
    if isinstance(prompt, Scribble | Lasso):
        _check_stroke(prompt, shape)


def as_numbers(kind: str, values: ArrayLike, axes: int | None = None) -> NDArray[Any]:
    """Return the positions of a prompt as an array of numbers.

    Args:
        kind: the prompt.
        values: its positions.
        axes: axes of the array; None: any.

    Raises:
        DataError: they are no numbers, or the array has other axes.

    Example:
        >>> as_numbers("point", (1, 2.5), axes=1).tolist()
        [1.0, 2.5]
    """
    try:
        array = np.asarray(values)
        numeric = array.dtype.kind in "buif"
    except ValueError:  # rows of different lengths
        array, numeric = np.zeros(0), False
    if not numeric:
        raise DataError(f"{kind}: expected positions of numbers, got {_shorten(values)}")
    if axes is not None and array.ndim != axes:
        raise DataError(f"{kind}: expected a number for each axis, got {_shorten(values)}")
    return array


def check_start_mask(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask that a session begins with as booleans, a copy.

    Args:
        mask: (*S) bool, or numbers 0 and 1.
        shape: (*S) of the scan.

    Raises:
        DataError: it has another shape or other values, as a label map of several objects has.
    """
    array = np.asarray(mask)
    if array.shape != tuple(shape):
        raise DataError(f"mask of shape {array.shape}, expected that of the scan, {tuple(shape)}")
    if array.dtype != np.bool_:
        others = array[(array != 0) & (array != 1)]
        if others.size:
            raise DataError(
                f"mask with the value {others[0]}, expected only 0 and 1, or booleans",
                hint="Pass one object of a label map, as label_map == value.",
            )
    return array.astype(bool)


def _check_lasso(lasso: Lasso, dims: int) -> None:
    vertices = np.asarray(lasso.vertices)
    if vertices.ndim != 2 or vertices.shape[1] != 2 or len(vertices) < 3:
        raise DataError(f"lasso: expected vertices (N, 2), at least 3, got shape {vertices.shape}")
    if (lasso.axis is None) != (dims == 2):
        raise DataError(f"lasso: axis {lasso.axis} in a scan with {dims} axes; only volumes have one")
    if lasso.axis is not None and (not 0 <= lasso.axis < dims or lasso.index is None):
        raise DataError(
            f"lasso: axis {lasso.axis} and index {lasso.index}; expected an axis 0 to 2 and a slice"
        )


def _numbers(prompt: Prompt) -> tuple[ArrayLike, ...]:
    """Return all positions of a prompt as they were given."""
    if isinstance(prompt, Point):
        return (prompt.position,)
    if isinstance(prompt, Box):
        return prompt.lower, prompt.upper
    return (prompt.voxels if isinstance(prompt, Scribble) else prompt.vertices,)


def _shorten(values: object) -> str:
    text = repr(values)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_stroke(stroke: Scribble | Lasso, shape: tuple[int, ...]) -> None:
    """Raise DataError if positions lie outside a scan (*S) by more than half the width of the stroke."""
    positions = prompt_positions(stroke)
    last = np.array(shape) - 1
    outside = np.maximum(-positions, positions - last).max(axis=1)
    worst = int(np.argmax(outside))
    if outside[worst] > (_half_width(positions) if isinstance(stroke, Scribble) else _MARGIN):
        kind, shown = type(stroke).__name__.lower(), [round(number, 3) for number in positions[worst].tolist()]
        raise DataError(
            f"{kind}: the point {shown} lies outside the scan, expected {[0] * len(shape)} to {last.tolist()}",
            hint="Positions are voxels in the order of the axes of the scan's array.",
        )


def _half_width(voxels: NDArray[np.float64]) -> float:
    """Return about half the width of a stroke (N, D), from its voxels and its largest extent; at least a voxel.

    Example:
        >>> line = np.stack([np.arange(9), np.zeros(9)], axis=1)
        >>> disk = np.argwhere(np.hypot(*np.mgrid[-5:6, -5:6]) <= 5)
        >>> _half_width(line), round(_half_width(disk), 1)
        (1.0, 5.2)
    """
    extents = np.ptp(voxels, axis=0) + 1
    across = np.count_nonzero(extents > 1) - 1
    if across < 1:
        return _MARGIN
    return max(_MARGIN, float(0.5 + 2 / np.pi * (len(voxels) / extents.max()) ** (1 / across)))
