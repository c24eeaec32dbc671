"""All scores of one mask against its reference, in one call."""

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
    """Overlap, volume and surface scores of one mask (not zero is foreground).

    Shapes: reference and prediction (*S), 2 or 3 axes; ``spacing`` in mm per array axis, in array order.
    Keys: dice, iou, accuracy, precision, recall, specificity, vs, rvd (unitless), hd, hd95, assd, masd
    (mm), nsd (fraction of the surfaces within ``tolerance_mm``). Both masks empty: nan; one empty:
    distances inf, nsd, dice and iou 0.
    Raises: ValueError if the shapes differ, or if ``spacing`` or ``tolerance_mm`` is not usable.
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
    """hd, hd95, assd, masd (mm) and nsd (fraction within ``tolerance_mm``) of surface distances."""
    return {
        "hd": surfaces.hausdorff(distances),
        "hd95": surfaces.hausdorff_percentile(distances, 95),
        "assd": surfaces.average_distance(distances),
        "masd": surfaces.mean_average_distance(distances),
        "nsd": surfaces.surface_dice(distances, tolerance_mm),
    }
