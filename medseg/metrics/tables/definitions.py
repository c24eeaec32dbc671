"""Definitions of the scores and statistics of a table, which are stored with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from medseg.metrics.case.options import Like, MeasureOptions, Unit
from medseg.metrics.definitions import metric_info
from medseg.metrics.surface import TOLERANCE_SLACK_MM
from medseg.metrics.tables import statistics
from medseg.metrics.tables.columns import Row, metric_columns
from medseg.metrics.tables.missed_structures import MISS_RULES, MissPolicy

_PERCENTILE = re.compile(r"hd(\d+(?:\.\d+)?)")

_EMPTY: dict[Like, str] = {
    "monai": "both empty: dice and iou 1, other scores nan; one empty: percentiles of distances nan, other "
    "distances inf, dice, iou and nsd 0",
    "deepmind": "both empty: hd and its percentiles inf, other scores nan; one empty: masd nan, other "
    "distances inf, dice, iou and nsd 0",
    "medpy": "both empty: dice, precision and recall 0, other scores nan; one empty: distances nan, dice, iou, "
    "precision, recall and nsd 0",
    "nnunet": "both empty: nan; one empty: distances nan, dice, iou and nsd 0; a mask that fills the image: "
    "distances nan",
}
"""Scores of empty masks by the conventions of other libraries."""


def definitions(
    options: MeasureOptions, seed: int, unit: Unit = "mm", misses: MissPolicy = "worst"
) -> dict[str, Any]:
    """Return the definitions of the scores, which are stored with a summary."""
    surface, tolerance_mm = options.elements, options.tolerance_mm
    tolerance = dict(tolerance_mm) if isinstance(tolerance_mm, Mapping) else float(tolerance_mm)
    sizes = "volumes in mm³ (areas in mm² where the array is 2D)" if unit == "mm" else "areas in pixels"
    weighted = "smallest distance whose cumulated surfel weight reaches 95 %"
    linear = "linear interpolation between order statistics"
    percentile = weighted if surface == "surfel" else linear
    defined: dict[str, Any] = {
        "groups": list(options.groups),
        "surface": surface,
        "like": options.like,
        "unit": unit,
        f"tolerance_{unit}": tolerance,
        f"tolerance_slack_{unit}": TOLERANCE_SLACK_MM,
        "spacing_units": f"{unit}, in array axis order; {sizes}",
        "outside_the_array": "background",
        "hd95": f"larger of the two directed 95th percentiles: {percentile}",
        "assd": "sum of weight · distance over both surfaces / sum of weights",
        "masd": "mean of the two directed mean distances",
        "nsd": "weighted fraction of both surfaces within the tolerance plus the slack",
        "empty": "both empty: nan, left out and counted; one empty: distances inf, dice, iou and nsd 0",
        "boundary_iou_width": options.boundary_iou_mm or "the tolerance",
        "f_beta": options.beta,
        "lesions": {"min_iou": options.lesions.min_iou, "brats": options.lesions.brats},
        "misses": misses,
        "misses_rule": MISS_RULES[misses],
        "mean": "of the n values that count; mean_finite is of those that are finite in the table of cases",
        "quantiles": linear,
        "bootstrap": {
            "interval": f"{statistics.CONFIDENCE:.0%}, of the mean over cases: BCa, extended to Student's t",
            "resamples": statistics.RESAMPLES,
            "seed": seed,
        },
        "median_interval": f"order statistics, {statistics.CONFIDENCE:.0%}; none with fewer than 6 values",
    }
    return defined | _of_library(options.like, percentile)


def _of_library(like: Like | None, percentile: str) -> dict[str, str]:
    """Return the definitions that ``medseg.metrics.case.conventions`` changes."""
    if like is None:
        return {}
    changed = {"empty": _EMPTY[like]}
    if like in ("medpy", "nnunet"):
        changed["hd95"] = f"95th percentile of the distances of both directions together: {percentile}"
    if like == "nnunet":
        changed["nsd"] = "mean of the fractions of both surfaces within the tolerance plus the slack"
    return changed


def metric_definitions(rows: Iterable[Row], like: Like | None = None) -> dict[str, str]:
    """Return the definition of each metric of a table, by the conventions of a library."""
    found: dict[str, str] = {}
    for column in metric_columns(rows):
        with suppress(KeyError):
            found[column] = metric_info(column).definition
        if like in ("medpy", "nnunet") and (matched := _PERCENTILE.fullmatch(column)):
            found[column] = f"{matched[1]}th percentile of the surface distances of both directions together"
        if like == "nnunet" and column == "nsd":
            found[column] = "mean of the fractions of both surfaces within the tolerance of the other"
    return found
