"""A user who draws closed lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import find_contours

from medseg.prompts.prompts import Lasso
from medseg.prompts.users.brush import STEP, add_wobble, resample
from medseg.prompts.users.planes import Plane, cut_region, draw_plane
from medseg.prompts.users.regions import Region, largest_component, largest_error
from medseg.prompts.users.strokes import Line
from medseg.prompts.users.user import BoolArray

_FEWEST = 8
"""Fewest vertices of a line."""


@dataclass(frozen=True)
class LassoUser:
    """Draws a closed line around the largest error of the mask; in volumes in one slice.

    Args:
        distance: distance of the line from the region, in pixels.
        wobble: standard deviation of the hand, in pixels.
        spacing: distance of the line's vertices, in pixels.
    """

    distance: float = 1.5
    wobble: float = 1.0
    spacing: float = 4.0

    @property
    def name(self) -> str:
        return "lasso"

    def first(self, reference: BoolArray, rng: np.random.Generator) -> Lasso:
        return self._draw(largest_component(reference), rng)

    def next(self, reference: BoolArray, mask: BoolArray, rng: np.random.Generator) -> Lasso | None:
        region = largest_error(reference, mask)
        return None if region is None else self._draw(region, rng)

    def _draw(self, region: Region, rng: np.random.Generator) -> Lasso:
        plane: Plane = draw_plane(region, rng)
        inside, corner = cut_region(region, plane)
        line = resample(_outline(inside, self.distance) + corner)
        step = min(round(self.spacing / STEP), len(line) // _FEWEST)
        line = add_wobble(line, self.wobble, rng)[:: max(1, step)]
        limits = np.delete(np.array(region.shape), plane.axis) if plane.axis is not None else region.shape
        vertices = np.clip(line, 0, np.array(limits) - 1)
        index = None if plane.axis is None else plane.index
        return Lasso(vertices, plane.axis, index, region.positive)


def _outline(region: BoolArray, distance: float) -> Line:
    """Return the outline of a region's largest part, moved outwards by a distance, (N, 2)."""
    margin = int(np.ceil(distance)) + 2
    padded = np.pad(region, margin)
    outside = np.asarray(distance_transform_edt(~padded))
    return np.asarray(max(find_contours(outside, distance), key=len)) - margin
