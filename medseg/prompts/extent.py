"""Boxes around prompts."""

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
