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
from medseg.metrics.geometry.nearest_distance import DistanceHistogram, Elements, distance_histogram
from medseg.metrics.geometry.surface_elements import (
    CodeArray,
    neighbor_codes,
    surfel_elements,
    surfel_weights,
    voxel_elements,
)

FloatArray = NDArray[np.float64]
CountArray = NDArray[np.intp]

_ROUNDING = 1e-9
"""Share of the surface by which a percentile may be missed: equal sums of weights differ by rounding."""
Surface = Literal["surfel", "voxel"]

TOLERANCE_SLACK_MM = 1e-6


@dataclass(frozen=True, slots=True)
class DirectedDistances:
    """Distances from the elements of one surface to the other surface, as a histogram.

    Attributes:
        distances: (D,) in mm. D is 0 if the mask is empty.
        counts: (D,) number of elements at each distance.
        weights: (D,) area (mm²) or length (mm) of the elements at each distance, or None if all elements have
            the same weight.
    """

    distances: FloatArray
    counts: CountArray
    weights: FloatArray | None = None

    @property
    def sizes(self) -> FloatArray:
        """Weight of the elements at each distance (D,)."""
        return self.counts.astype(np.float64) if self.weights is None else self.weights

    @property
    def total_weight(self) -> float:
        """Size of the surface: mm² (3D) or mm (2D) for surfels, else the number of voxels."""
        return float(self.sizes.sum())

    @property
    def weighted_sum(self) -> float:
        """Σ weight · distance."""
        return float((self.sizes * self.distances).sum())

    def weight_within(self, distance_mm: float) -> float:
        """Return the weight of the elements within ``distance_mm``."""
        return float(self.sizes[self.distances <= distance_mm].sum())

    def percentile(self, percent: float) -> float:
        """Return the distance that ``percent`` of the surface does not exceed.

        Unweighted: linear interpolation between order statistics. Weighted: the smallest distance whose
        cumulated weight reaches ``percent`` of the whole, up to rounding (Nikolov et al. 2021,
        doi:10.2196/26151).
        """
        order = np.argsort(self.distances)
        ascending = self.distances[order]
        if self.weights is None:
            return _interpolated(ascending, np.cumsum(self.counts[order]), percent)
        cumulated = np.cumsum(self.weights[order]) / self.weights.sum()
        position = int(np.searchsorted(cumulated, percent / 100 - _ROUNDING))
        return float(ascending[min(position, len(order) - 1)])

    def joined(self, other: DirectedDistances) -> DirectedDistances:
        """Return the distances of both directions together."""
        weights = (
            None
            if self.weights is None or other.weights is None
            else np.concatenate([self.weights, other.weights])
        )
        return DirectedDistances(
            np.concatenate([self.distances, other.distances]),
            np.concatenate([self.counts, other.counts]),
            weights,
        )


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
    check_surface(surface)
    masks = [np.ascontiguousarray(mask) for mask in crop_pair(as_mask(reference), as_mask(prediction))]
    if surface == "voxel":
        return element_distances(voxel_elements(masks[0]), voxel_elements(masks[1]), voxel_mm)
    return surfel_distances(neighbor_codes(masks[0]), neighbor_codes(masks[1]), voxel_mm)


def check_surface(surface: str) -> None:
    """Raise ValueError if the kind of surface elements is unknown."""
    if surface not in ("surfel", "voxel"):
        raise ValueError(f"surface is {surface!r}, expected 'surfel' or 'voxel'")


def element_distances(
    reference: BoolArray, prediction: BoolArray, spacing: tuple[float, ...]
) -> SurfaceDistances:
    """Compute the distances between two sets of voxels, both (*S)."""
    table = np.ones(1)
    one, two = (Elements(mask, np.zeros(mask.shape, np.uint8), table) for mask in (reference, prediction))
    from_one, from_two = _histogram(one, two, spacing), _histogram(two, one, spacing)
    return SurfaceDistances(
        DirectedDistances(from_one.distances, from_one.counts),
        DirectedDistances(from_two.distances, from_two.counts),
        "voxel",
    )


def surfel_distances(
    reference: CodeArray, prediction: CodeArray, spacing: tuple[float, ...]
) -> SurfaceDistances:
    """Compute the distances between the surfels of two masks, given as ``neighbor_codes`` of the same shape."""
    table = surfel_weights(spacing)
    one, two = (Elements(surfel_elements(codes), codes, table) for codes in (reference, prediction))
    from_one, from_two = _histogram(one, two, spacing), _histogram(two, one, spacing)
    return SurfaceDistances(
        DirectedDistances(from_one.distances, from_one.counts, from_one.weights),
        DirectedDistances(from_two.distances, from_two.counts, from_two.weights),
        "surfel",
    )


def _histogram(elements: Elements, targets: Elements, spacing: tuple[float, ...]) -> DistanceHistogram:
    """Count elements by distance; all are at inf if there are no targets."""
    if targets.positions.any():
        return distance_histogram(elements, targets.positions, spacing)
    weights = elements.table[elements.codes[elements.positions]]
    groups = int(weights.size > 0)
    return DistanceHistogram(
        np.full(groups, math.inf), np.full(groups, weights.size), np.full(groups, weights.sum())
    )


def _interpolated(ascending: FloatArray, cumulated: CountArray, percent: float) -> float:
    """Return a percentile of repeated values by linear interpolation between order statistics."""
    position = percent / 100 * (int(cumulated[-1]) - 1)
    below = math.floor(position)
    low, high = (
        float(ascending[int(np.searchsorted(cumulated, rank, side="right"))])
        for rank in (below, min(below + 1, int(cumulated[-1]) - 1))
    )
    share = position - below
    return low + share * (high - low) if share else low


def hausdorff(distances: SurfaceDistances) -> float:
    """Hausdorff distance in mm: the largest distance in both directions (Huttenlocher et al. 1993)."""
    return hausdorff_percentile(distances, 100)


def hausdorff_percentile(distances: SurfaceDistances, percent: float = 95) -> float:
    """Percentile Hausdorff distance in mm: the larger percentile of the two directions, not of both pooled."""
    if distances.empty_value is not None:
        return distances.empty_value
    return max(distances.from_reference.percentile(percent), distances.from_prediction.percentile(percent))


def pooled_percentile(distances: SurfaceDistances, percent: float = 95) -> float:
    """Percentile in mm of the distances of both directions together, as in medpy."""
    if distances.empty_value is not None:
        return distances.empty_value
    return distances.from_reference.joined(distances.from_prediction).percentile(percent)


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
