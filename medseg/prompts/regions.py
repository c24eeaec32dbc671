"""Boxes of prompts and of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.prompts.prompts import Box, Point, Prompt, Scribble


def prompt_box(prompt: Prompt) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the box of a prompt: its first voxel and the voxel after its last one along each axis, (D,).

    Example:
        >>> [corner.tolist() for corner in prompt_box(Point((3.0, 5.0)))]
        [[3.0, 5.0], [4.0, 6.0]]
    """
    if isinstance(prompt, Box):
        return np.array(prompt.lower, np.float64), np.array(prompt.upper, np.float64)
    if isinstance(prompt, Point):
        positions = np.array([prompt.position], np.float64)
    elif isinstance(prompt, Scribble):
        positions = np.asarray(prompt.voxels, np.float64)
    else:
        positions = np.asarray(prompt.vertices, np.float64)
        if prompt.axis is not None:
            positions = np.insert(positions, prompt.axis, float(prompt.index or 0), axis=1)
    return positions.min(axis=0), positions.max(axis=0) + 1


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """Return the smallest box that contains a mask (*S); None if it is empty.

    Example:
        >>> bounding_box(np.array([[False, False], [False, True]]))
        (slice(1, 2, None), slice(1, 2, None))
    """
    parts: list[slice] = []
    for axis in range(mask.ndim):
        line = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        if not line.size:
            return None
        parts.append(slice(int(line[0]), int(line[-1]) + 1))
    return tuple(parts)
