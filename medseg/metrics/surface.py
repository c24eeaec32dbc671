"""Distances between the surfaces of two masks, and the scores computed from them.

``surface_distances`` is the costly function; the other functions read a score from its result. If both masks
are empty, every score is nan. If one is empty, distances are inf and the surface Dice is 0, so that a missed
structure never scores better than a poor one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray, as_mask, check_shapes, check_spacing, check_tolerance
from medseg.metrics.geometry.bounding_box import crop_pair
from medseg.metrics.geometry.nearest_distance import nearest_distances
from medseg.metrics.geometry.surface_elements import surfel_elements, voxel_elements

FloatArray = NDArray[np.float64]
Surface = Literal["surfel", "voxel"]

TOLERANCE_SLACK_MM = 1e-6


@dataclass(frozen=True, slots=True)
class DirectedDistances:
    """Distances from the elements of one surface to the other surface.

    Attributes:
        distances: (N,) in mm. N is 0 if the mask is empty.
        weights: (N,), or None if all elements have the same weight.
    """

    distances: FloatArray
    weights: FloatArray | None = None

    @property
    def total_weight(self) -> float:
        """Size of the surface: mm² (3D) or mm (2D) for surfels, else the number of voxels."""
        return float(len(self.distances) if self.weights is None else self.weights.sum())

    @property
    def weighted_sum(self) -> float:
        """Σ weight · distance."""
        weighted = self.distances if self.weights is None else self.weights * self.distances
        return float(weighted.sum())

    def weight_within(self, distance_mm: float) -> float:
        """Return the weight of the elements within ``distance_mm``."""
        near = self.distances <= distance_mm
        return float(np.count_nonzero(near) if self.weights is None else self.weights[near].sum())

    def percentile(self, percent: float) -> float:
        """Return the distance that ``percent`` of the surface does not exceed.

        Unweighted: linear interpolation between order statistics. Weighted: the smallest distance whose
        cumulated weight reaches ``percent`` of the whole (Nikolov et al. 2021, doi:10.2196/26151).
        """
        if self.weights is None:
            return float(np.percentile(self.distances, percent))
        order = np.argsort(self.distances)
        cumulated = np.cumsum(self.weights[order]) / self.weights.sum()
        position = int(np.searchsorted(cumulated, percent / 100))
        return float(self.distances[order[min(position, len(order) - 1)]])


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances between two surfaces in both directions.

    Attributes:
        from_reference: distances from the reference to the prediction.
        from_prediction: distances from the prediction to the reference.
        surface: kind of surface elements.
    """

    from_reference: DirectedDistances
    from_prediction: DirectedDistances
    surface: Surface

    @property
    def empty_value(self) -> float | None:
        """Value of a distance if a surface is empty: nan if both are, inf if one is, None if neither is."""
        missing = (not len(self.from_reference.distances)) + (not len(self.from_prediction.distances))
        return (None, math.inf, math.nan)[missing]


def surface_distances(
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float],
    *,
    surface: Surface = "surfel",
) -> SurfaceDistances:
    """Compute the distances between the surfaces of two masks; nonzero values are foreground.

    Args:
        reference: mask (*S), 2 or 3 axes. Outside the array is background.
        prediction: mask (*S).
        spacing: mm per array axis.
        surface: ``surfel``: surface elements on the half-voxel grid, weighted by area or length (Nikolov et al.
            2021, doi:10.2196/26151). ``voxel``: foreground voxels with a face neighbor in the background,
            unweighted.

    Raises:
        ValueError: if the shapes differ, or the spacing or surface is invalid.

    Example:
        >>> import numpy as np
        >>> reference, prediction = np.zeros((6, 6)), np.zeros((6, 6))
        >>> reference[1:4, 1:4], prediction[1:4, 1:5] = 1, 1  # one column more
        >>> distances = surface_distances(reference, prediction, spacing=(1.0, 0.5))
        >>> hausdorff(distances)
        0.5
    """
    check_shapes(reference, prediction)
    voxel_mm = check_spacing(spacing, reference.ndim)
    if surface not in ("surfel", "voxel"):
        raise ValueError(f"surface is {surface!r}, expected 'surfel' or 'voxel'")
    masks = crop_pair(as_mask(reference), as_mask(prediction))
    (from_mask, from_weights), (to_mask, to_weights) = (
        surfel_elements(mask, voxel_mm) if surface == "surfel" else (voxel_elements(mask), None)
        for mask in masks
    )
    if not (from_mask.any() and to_mask.any()):
        return SurfaceDistances(
            _unreachable(from_mask, from_weights), _unreachable(to_mask, to_weights), surface
        )
    return SurfaceDistances(
        DirectedDistances(nearest_distances(from_mask, to_mask, voxel_mm), from_weights),
        DirectedDistances(nearest_distances(to_mask, from_mask, voxel_mm), to_weights),
        surface,
    )


def hausdorff(distances: SurfaceDistances) -> float:
    """Hausdorff distance in mm: the largest distance in both directions (Huttenlocher et al. 1993)."""
    return hausdorff_percentile(distances, 100)


def hausdorff_percentile(distances: SurfaceDistances, percent: float = 95) -> float:
    """Percentile Hausdorff distance in mm: the larger percentile of the two directions, not of both pooled."""
    if distances.empty_value is not None:
        return distances.empty_value
    return max(distances.from_reference.percentile(percent), distances.from_prediction.percentile(percent))


def average_distance(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance (ASSD) in mm: Σ(w·d) / Σw over the elements of both surfaces."""
    if distances.empty_value is not None:
        return distances.empty_value
    one, two = distances.from_reference, distances.from_prediction
    return (one.weighted_sum + two.weighted_sum) / (one.total_weight + two.total_weight)


def mean_average_distance(distances: SurfaceDistances) -> float:
    """Mean average surface distance (MASD) in mm: the mean of the mean distances of both directions."""
    if distances.empty_value is not None:
        return distances.empty_value
    one, two = distances.from_reference, distances.from_prediction
    return (one.weighted_sum / one.total_weight + two.weighted_sum / two.total_weight) / 2


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Normalized surface Dice (NSD): the fraction of both surfaces within a tolerance of the other.

    Source: Nikolov et al. 2021, doi:10.2196/26151.

    Args:
        distances: result of ``surface_distances``.
        tolerance_mm: tolerance; 1e-6 mm are added for rounding.

    Raises:
        ValueError: if the tolerance is negative or not finite.
    """
    limit = check_tolerance(tolerance_mm) + TOLERANCE_SLACK_MM
    if distances.empty_value is not None:
        return math.nan if math.isnan(distances.empty_value) else 0.0
    one, two = distances.from_reference, distances.from_prediction
    near = one.weight_within(limit) + two.weight_within(limit)
    return near / (one.total_weight + two.total_weight)


def _unreachable(elements: BoolArray, weights: FloatArray | None) -> DirectedDistances:
    return DirectedDistances(np.full(np.count_nonzero(elements), math.inf), weights)
