"""The two masks of one label, and what several metrics need of them, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medseg.metrics.checks import BoolArray
from medseg.metrics.geometry.surface_elements import CodeArray, neighbor_codes, voxel_elements
from medseg.metrics.lesions.components import InstanceArray, Overlaps, instance_overlaps
from medseg.metrics.overlap import Counts, count_overlap
from medseg.metrics.surface import Surface, SurfaceDistances, element_distances, surfel_distances
from medseg.metrics.typed_wrappers import components


@dataclass(frozen=True)
class MaskPair:
    """Masks of a reference and a prediction, cropped to the foreground of both.

    Attributes:
        reference: (*S), in C order.
        prediction: (*S), in C order.
        spacing: mm per axis.
        total: number of voxels of the whole image that count; those outside the crop are background.
    """

    reference: BoolArray
    prediction: BoolArray
    spacing: tuple[float, ...]
    total: int

    @cached_property
    def counts(self) -> Counts:
        """Overlap in the whole image."""
        inside = count_overlap(self.reference, self.prediction)
        return Counts(inside.tp, inside.fp, inside.fn, self.total - inside.tp - inside.fp - inside.fn)

    @cached_property
    def codes(self) -> tuple[CodeArray, CodeArray]:
        """Neighbor codes of reference and prediction."""
        return neighbor_codes(self.reference), neighbor_codes(self.prediction)

    @cached_property
    def components(self) -> tuple[InstanceArray, InstanceArray]:
        """Numbered components of reference and prediction."""
        return components(self.reference), components(self.prediction)

    @cached_property
    def overlaps(self) -> Overlaps:
        """Overlaps of the components."""
        return instance_overlaps(*self.components)

    def distances(self, surface: Surface) -> SurfaceDistances:
        """Return the distances between the surfaces."""
        if surface == "surfel":
            return surfel_distances(*self.codes, self.spacing)
        return element_distances(voxel_elements(self.reference), voxel_elements(self.prediction), self.spacing)

    @property
    def is_full(self) -> tuple[bool, bool]:
        """Whether reference and prediction fill the image."""
        return self.counts.reference == self.total, self.counts.prediction == self.total


def contiguous(mask: BoolArray) -> BoolArray:
    """Return a mask in C order, a copy where necessary."""
    return np.ascontiguousarray(mask)
