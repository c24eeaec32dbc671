"""``Occupancy``: the bounding box of a mask, kept up to date by the parts of the mask that change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.prompts.users.regions import bounding_box

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Occupancy:
    """How many voxels of a mask are set in each plane; its bounding box follows without reading the mask.

    Attributes:
        counts: for each axis, the set voxels (N,) of each plane perpendicular to it.

    Example:
        >>> mask = np.zeros((4, 5), bool)
        >>> empty = Occupancy.of(mask)
        >>> mask[1:3, 4] = True
        >>> empty.replaced((slice(0, 3), slice(3, 5)), np.zeros((3, 2), bool), mask[:3, 3:]).box
        (slice(1, 3, None), slice(4, 5, None))
    """

    counts: tuple[Counts, ...]

    @classmethod
    def of(cls, mask: Bools) -> Occupancy:
        """Count the voxels of a whole mask (*S)."""
        empty = cls(tuple(np.zeros(n, np.int64) for n in mask.shape))
        box = bounding_box(mask)
        return empty if box is None else empty.replaced(box, np.zeros_like(mask[box]), mask[box])

    def replaced(self, region: tuple[slice, ...], before: Bools, after: Bools) -> Occupancy:
        """Return the counts after a region of the mask has changed.

        Args:
            region: the region, of which only the voxels (*R) are read.
            before: (*R) its voxels before the change.
            after: (*R) its voxels after the change.
        """
        change = after.view(np.int8) - before.view(np.int8)
        counts: list[Counts] = []
        for axis, (line, part) in enumerate(zip(self.counts, region, strict=True)):
            new = line.copy()
            new[part] += change.sum(axis=tuple(a for a in range(change.ndim) if a != axis), dtype=np.int64)
            counts.append(new)
        return Occupancy(tuple(counts))

    @property
    def box(self) -> tuple[slice, ...] | None:
        """The smallest box that holds every set voxel; None if there is none."""
        filled = [np.flatnonzero(line) for line in self.counts]
        return tuple(slice(int(one[0]), int(one[-1]) + 1) for one in filled) if filled[0].size else None
