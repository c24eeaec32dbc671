"""A user who clicks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medseg.prompts.prompts import Point
from medseg.prompts.users.regions import Region, depth, largest_component, largest_error
from medseg.prompts.users.user import BoolArray

ClickHabit = Literal["deepest", "random", "hasty"]


@dataclass(frozen=True)
class ClickUser:
    """Clicks into the largest error of the mask.

    Args:
        habit: where in the error. ``deepest``: about its deepest point, as in the protocols of interactive
            segmentation (Sofiiuk et al. 2022, arXiv:2102.06583); ``random``: anywhere; ``hasty``: close to its
            border, with a slip of the hand that can miss the error.
        tolerance: a deepest point is drawn among voxels that are at least 1 - tolerance times as deep as the
            deepest.
        slip: standard deviation of a hasty hand, in voxels.

    Example:
        >>> square = np.zeros((7, 7), bool)
        >>> square[1:6, 1:6] = True
        >>> ClickUser().first(square, np.random.default_rng(0))
        Point(position=(3.0, 3.0), positive=True)
    """

    habit: ClickHabit = "deepest"
    tolerance: float = 0.1
    slip: float = 1.0

    @property
    def name(self) -> str:
        return "clicks" if self.habit == "deepest" else f"{self.habit}-clicks"

    def first(self, reference: BoolArray, rng: np.random.Generator) -> Point:
        return self._click(largest_component(reference), rng)

    def next(self, reference: BoolArray, mask: BoolArray, rng: np.random.Generator) -> Point | None:
        region = largest_error(reference, mask)
        return None if region is None else self._click(region, rng)

    def _click(self, region: Region, rng: np.random.Generator) -> Point:
        candidates = np.flatnonzero(self._candidates(region.mask))
        inside = np.unravel_index(candidates[rng.integers(candidates.size)], region.mask.shape)
        position = np.array(inside, float) + region.corner
        if self.habit == "hasty":
            position = np.rint(position + rng.normal(0, self.slip, position.size))
            position = np.clip(position, 0, np.array(region.shape) - 1)
        return Point(tuple(float(value) for value in position), region.positive)

    def _candidates(self, region: BoolArray) -> BoolArray:
        if self.habit == "random":
            return region
        depths = depth(region)
        deepest = depths.max()
        if self.habit == "deepest":
            return np.asarray(depths >= (1 - self.tolerance) * deepest)
        return region & (depths <= max(1.0, deepest / 3))
