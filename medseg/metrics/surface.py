"""Distances between the surfaces of two masks: one costly function, and small readers of its result.

With both masks empty every reader gives nan, with one empty the distances are inf and the surface Dice
is 0: a missed structure is never better than a poor one.
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
class Directed:
    """Distances (N,) in mm from the elements of one surface to the other surface, and their weights (N,).

    ``weights`` is None where all elements count the same. With an empty mask N is 0.
    """

    distances: FloatArray
    weights: FloatArray | None = None

    @property
    def total_weight(self) -> float:
        """The surface's size: mm² (3D) or mm (2D) of surfels, or a number of voxels."""
        return float(len(self.distances) if self.weights is None else self.weights.sum())

    @property
    def weighted_sum(self) -> float:
        """Σ weight · distance."""
        weighted = self.distances if self.weights is None else self.weights * self.distances
        return float(weighted.sum())

    def weight_within(self, distance_mm: float) -> float:
        """The weight of the elements no farther than ``distance_mm``."""
        near = self.distances <= distance_mm
        return float(np.count_nonzero(near) if self.weights is None else self.weights[near].sum())

    def percentile(self, percent: float) -> float:
        """The distance that ``percent`` of the surface does not exceed.

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
    """Both directions of the distances between two surfaces, and the kind of element they run over."""

    from_reference: Directed
    from_prediction: Directed
    surface: Surface

    @property
    def empty_value(self) -> float | None:
        """nan if both surfaces are empty, inf if one is, None if neither is."""
        missing = (not len(self.from_reference.distances)) + (not len(self.from_prediction.distances))
        return (None, math.inf, math.nan)[missing]


def surface_distances(
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float],
    *,
    surface: Surface = "surfel",
) -> SurfaceDistances:
    """Distances in mm between the surfaces of two masks (not zero is foreground), in both directions.

    Shapes: reference and prediction (*S), 2 or 3 axes; ``spacing`` in mm per array axis, in array order.
    Outside the array is background. ``surface="surfel"``: area- or length-weighted surface elements on
    the half-voxel grid (Nikolov et al. 2021, doi:10.2196/26151). ``surface="voxel"``: the foreground
    voxels with a face neighbor in the background, unweighted.
    Raises: ValueError if the shapes differ, or if ``spacing`` or ``surface`` is not usable.
    """
    check_shapes(reference, prediction)
    voxel_mm = check_spacing(spacing, reference.ndim)
    if surface not in ("surfel", "voxel"):
        raise ValueError(f"surface is {surface!r}, expected 'surfel' or 'voxel'")
    masks = crop_pair(as_mask(reference), as_mask(prediction))
    (from_places, from_weights), (to_places, to_weights) = (
        surfel_elements(mask, voxel_mm) if surface == "surfel" else (voxel_elements(mask), None)
        for mask in masks
    )
    if not (from_places.any() and to_places.any()):
        return SurfaceDistances(
            _unreachable(from_places, from_weights), _unreachable(to_places, to_weights), surface
        )
    return SurfaceDistances(
        Directed(nearest_distances(from_places, to_places, voxel_mm), from_weights),
        Directed(nearest_distances(to_places, from_places, voxel_mm), to_weights),
        surface,
    )


def hausdorff(distances: SurfaceDistances) -> float:
    """HD in mm: the largest distance of either direction (Huttenlocher et al. 1993)."""
    return hausdorff_percentile(distances, 100)


def hausdorff_percentile(distances: SurfaceDistances, percent: float = 95) -> float:
    """HD95 in mm: the larger of the two directed percentiles (not the percentile of both pooled)."""
    if distances.empty_value is not None:
        return distances.empty_value
    return max(distances.from_reference.percentile(percent), distances.from_prediction.percentile(percent))


def average_distance(distances: SurfaceDistances) -> float:
    """ASSD in mm: Σ(w·d) / Σw over the elements of both surfaces."""
    if distances.empty_value is not None:
        return distances.empty_value
    one, two = distances.from_reference, distances.from_prediction
    return (one.weighted_sum + two.weighted_sum) / (one.total_weight + two.total_weight)


def mean_average_distance(distances: SurfaceDistances) -> float:
    """MASD in mm: the mean of the two directed mean distances."""
    if distances.empty_value is not None:
        return distances.empty_value
    one, two = distances.from_reference, distances.from_prediction
    return (one.weighted_sum / one.total_weight + two.weighted_sum / two.total_weight) / 2


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """NSD: the fraction of both surfaces within ``tolerance_mm`` (+ 1e-6 mm for rounding) of the other.

    Source: Nikolov et al. 2021, doi:10.2196/26151. Raises: ValueError if the tolerance is negative.
    """
    limit = check_tolerance(tolerance_mm) + TOLERANCE_SLACK_MM
    if distances.empty_value is not None:
        return math.nan if math.isnan(distances.empty_value) else 0.0
    one, two = distances.from_reference, distances.from_prediction
    near = one.weight_within(limit) + two.weight_within(limit)
    return near / (one.total_weight + two.total_weight)


def _unreachable(places: BoolArray, weights: FloatArray | None) -> Directed:
    return Directed(np.full(np.count_nonzero(places), math.inf), weights)
