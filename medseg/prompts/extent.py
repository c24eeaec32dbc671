"""Boxes around prompts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.prompts.prompts import Box, Lasso, Point, Prompt, Scribble


def prompt_box(prompt: Prompt) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the box of a prompt: its first voxel and the voxel after its last one along each axis, (D,).

    Example:
        >>> [corner.tolist() for corner in prompt_box(Point((3.0, 5.0)))]
        [[3.0, 5.0], [4.0, 6.0]]
    """
    if isinstance(prompt, Box):
        return np.array(prompt.lower, np.float64), np.array(prompt.upper, np.float64)
    positions = prompt_positions(prompt)
    return positions.min(axis=0), positions.max(axis=0) + 1


def prompt_positions(prompt: Point | Scribble | Lasso) -> NDArray[np.float64]:
    """Return the positions (N, D) of a click, a scribble or a lasso; of a lasso in a volume, with its slice.

    Example:
        >>> prompt_positions(Lasso(np.array([[1, 2], [3, 4], [5, 6]]), axis=0, index=7))[0].tolist()
        [7.0, 1.0, 2.0]
    """
    if isinstance(prompt, Point):
        return np.array([prompt.position], np.float64)
    if isinstance(prompt, Scribble):
        return np.asarray(prompt.voxels, np.float64)
    vertices = np.asarray(prompt.vertices, np.float64)
    return (
        vertices if prompt.axis is None else np.insert(vertices, prompt.axis, float(prompt.index or 0), axis=1)
    )
