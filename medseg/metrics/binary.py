"""All scores of one mask in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from medseg.metrics import overlap
from medseg.metrics import surface as surfaces


def binary_metrics(
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float],
    tolerance_mm: float,
    *,
    surface: surfaces.Surface = "surfel",
) -> dict[str, float]:
    """Compute overlap, volume and surface scores of one mask; nonzero values are foreground.

    Args:
        reference: mask (*S), 2 or 3 axes.
        prediction: mask (*S).
        spacing: mm per array axis.
        tolerance_mm: tolerance of nsd.
        surface: ``surfel`` (elements weighted by area) or ``voxel`` (border voxels).

    Returns:
        Keys: dice, iou, accuracy, precision, recall, specificity, vs, rvd (unitless), hd, hd95, assd, masd
        (mm), nsd (fraction of the surfaces within the tolerance). If both masks are empty: nan. If one is
        empty: distances inf; nsd, dice and iou 0.

    Raises:
        ValueError: if the shapes differ, or the spacing or tolerance is invalid.

    Example:
        >>> import numpy as np
        >>> reference, prediction = np.zeros((8, 8)), np.zeros((8, 8))
        >>> reference[2:6, 2:6], prediction[2:6, 3:7] = 1, 1  # shifted by one voxel
        >>> scores = binary_metrics(reference, prediction, spacing=(1.0, 1.0), tolerance_mm=1.0)
        >>> scores["dice"], scores["hd"], scores["nsd"]
        (0.75, 1.0, 1.0)
    """
    counts = overlap.count_overlap(reference, prediction)
    distances = surfaces.surface_distances(reference, prediction, spacing, surface=surface)
    return {
        "dice": overlap.dice(counts),
        "iou": overlap.iou(counts),
        "accuracy": overlap.accuracy(counts),
        "precision": overlap.precision(counts),
        "recall": overlap.recall(counts),
        "specificity": overlap.specificity(counts),
        "vs": overlap.volume_similarity(counts),
        "rvd": overlap.relative_volume_difference(counts),
        **surface_scores(distances, tolerance_mm),
    }


def surface_scores(distances: surfaces.SurfaceDistances, tolerance_mm: float) -> dict[str, float]:
    """Compute hd, hd95, assd, masd (mm) and nsd (fraction within ``tolerance_mm``) from surface distances."""
    return {
        "hd": surfaces.hausdorff(distances),
        "hd95": surfaces.hausdorff_percentile(distances, 95),
        "assd": surfaces.average_distance(distances),
        "masd": surfaces.mean_average_distance(distances),
        "nsd": surfaces.surface_dice(distances, tolerance_mm),
    }
