"""Checks of prompts that come from outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import DataError
from medseg.prompts.extent import prompt_box
from medseg.prompts.prompts import Box, Lasso, Prompt, Scribble


def check_prompt(prompt: Prompt, shape: tuple[int, ...]) -> None:
    """Check that a prompt lies in a scan (*S).

    Raises:
        DataError: it has another number of axes, is empty, not finite, or lies outside.
    """
    dims, kind = len(shape), type(prompt).__name__.lower()
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
