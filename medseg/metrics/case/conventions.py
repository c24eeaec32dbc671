"""Conventions of other libraries, to compare with numbers published with them.

``monai``
    Border voxels; with an empty mask percentiles are nan and distances inf; Dice and IoU of two empty masks 1
    (``ignore_empty=False``).
``deepmind``
    Surfels (surface-distance); of two empty masks hd and its percentiles are inf; with one empty mask masd is
    nan.
``medpy``
    Border voxels; percentiles of both directions together; with an empty mask distances are nan, where medpy
    raises; Dice of two empty masks, precision and recall 0 instead of nan.
``nnunet``
    As medpy (nnU-Net 1 calls it), but overlap metrics keep nan; distances are nan also if a mask fills the
    image; nsd is the mean of the fractions of both directions.

Metrics that a library lacks keep medseg's definition.
"""

from __future__ import annotations

import math

from medseg.metrics.case.options import Like, MeasureOptions
from medseg.metrics.case.pair import MaskPair
from medseg.metrics.surface import (
    TOLERANCE_SLACK_MM,
    SurfaceDistances,
    average_distance,
    hausdorff_percentile,
    mean_average_distance,
    pooled_percentile,
    surface_dice,
)


def boundary_scores(
    distances: SurfaceDistances, tolerance_mm: float, options: MeasureOptions
) -> dict[str, float]:
    """Compute hd, its percentiles, assd, masd and nsd from surface distances."""
    pooled = options.like in ("medpy", "nnunet")
    percentile = pooled_percentile if pooled else hausdorff_percentile
    percents = {"hd": 100.0} | {f"hd{percent:g}": percent for percent in options.percentiles if percent != 100}
    return {
        **{column: percentile(distances, percent) for column, percent in percents.items()},
        "assd": average_distance(distances),
        "masd": mean_average_distance(distances),
        "nsd": (_mean_surface_dice if options.like == "nnunet" else surface_dice)(distances, tolerance_mm),
    }


def follow_convention(scores: dict[str, float], pair: MaskPair, options: MeasureOptions) -> dict[str, float]:
    """Replace the scores of empty or full masks by those of ``options.like``."""
    if options.like is None:
        return scores
    percentiles = options.distances[1:]
    counts = pair.counts
    empty = (not counts.reference) + (not counts.prediction)
    replaced = _replacements(options.like, empty, any(pair.is_full), percentiles)
    return {column: replaced.get(column, value) for column, value in scores.items()}


def _replacements(like: Like, empty: int, full: bool, percentiles: tuple[str, ...]) -> dict[str, float]:
    """Return the scores to replace, for a number of empty masks and whether one is full."""
    distances = ("hd", *percentiles, "assd", "masd")
    if like == "monai":
        one = dict.fromkeys(percentiles, math.nan)
        return {0: {}, 1: one, 2: {"dice": 1.0, "iou": 1.0}}[empty]
    if like == "deepmind":
        both = dict.fromkeys(("hd", *percentiles), math.inf)
        return {0: {}, 1: {"masd": math.nan}, 2: both}[empty]
    undefined = dict.fromkeys(distances, math.nan)
    if like == "nnunet":
        return undefined if empty or full else {}
    zero = {"precision": 0.0, "recall": 0.0} | ({"dice": 0.0} if empty == 2 else {})
    return undefined | zero if empty else {}


def _mean_surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    if distances.empty_value is not None:
        return surface_dice(distances, tolerance_mm)
    directions = (distances.from_reference, distances.from_prediction)
    limit = tolerance_mm + TOLERANCE_SLACK_MM
    return sum(one.weight_within(limit) / one.total_weight for one in directions) / 2
