"""The kinds of prompts. Positions are voxels of the scan, in the order of its array's axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Point:
    """A click.

    Args:
        position: voxel, one number per axis; (row, column) of a picture.
        positive: whether the voxel belongs to the object.
    """

    position: tuple[float, ...]
    positive: bool = True


@dataclass(frozen=True)
class Box:
    """A box around the object.

    Args:
        lower: first voxel of the box, one per axis.
        upper: voxel after the last one, one per axis; a box of one slice of a volume has ``lower + 1`` there.
        positive: whether the box holds the object or something that does not belong to it.
    """

    lower: tuple[int, ...]
    upper: tuple[int, ...]
    positive: bool = True


@dataclass(frozen=True, eq=False)
class Scribble:
    """Voxels that were painted over.

    Args:
        voxels: (N, D) integers.
        positive: whether they belong to the object.
    """

    voxels: np.ndarray
    positive: bool = True


@dataclass(frozen=True, eq=False)
class Lasso:
    """A closed line around the object (or, if negative, around what does not belong to it).

    Args:
        vertices: (N, 2) positions, in the order of the two axes that are left after ``axis``.
        axis: axis of a volume to which the line is perpendicular; ``None`` for a picture.
        index: slice along ``axis``.
        positive: whether the inside belongs to the object.
    """

    vertices: np.ndarray
    axis: int | None = None
    index: int | None = None
    positive: bool = True


Prompt = Point | Box | Scribble | Lasso
Prompts = Sequence[Prompt]
