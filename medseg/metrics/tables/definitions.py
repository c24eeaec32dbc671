"""Definitions of the scores and statistics of a table, which are stored with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from medseg.metrics.case.options import MeasureOptions, Unit
from medseg.metrics.definitions import metric_info
from medseg.metrics.surface import TOLERANCE_SLACK_MM
from medseg.metrics.tables import statistics
from medseg.metrics.tables.columns import Row, metric_columns
from medseg.metrics.tables.misses import MISS_RULES, MissPolicy


def definitions(
    options: MeasureOptions, seed: int, unit: Unit = "mm", misses: MissPolicy = "worst"
) -> dict[str, Any]:
    """Return the definitions of the scores, which are stored with a summary."""
    surface, tolerance_mm = options.elements, options.tolerance_mm
    tolerance = dict(tolerance_mm) if isinstance(tolerance_mm, Mapping) else float(tolerance_mm)
    sizes = "volumes in mm³ (areas in mm² where the array is 2D)" if unit == "mm" else "areas in pixels"
    weighted = "smallest distance whose cumulated surfel weight reaches 95 %"
    linear = "linear interpolation between order statistics"
    return {
        "groups": list(options.groups),
        "surface": surface,
        "like": options.like,
        "unit": unit,
        f"tolerance_{unit}": tolerance,
        f"tolerance_slack_{unit}": TOLERANCE_SLACK_MM,
        "spacing_units": f"{unit}, in array axis order; {sizes}",
        "outside_the_array": "background",
        "hd95": f"larger of the two directed 95th percentiles: {weighted if surface == 'surfel' else linear}",
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
            "interval": f"BCa, {statistics.CONFIDENCE:.0%}, of the mean, over cases",
            "resamples": statistics.RESAMPLES,
            "seed": seed,
        },
        "median_interval": f"order statistics, {statistics.CONFIDENCE:.0%}; none with fewer than 6 values",
    }


def metric_definitions(rows: Iterable[Row]) -> dict[str, str]:
    """Return the definition of each metric of a table."""
    found: dict[str, str] = {}
    for column in metric_columns(rows):
        with suppress(KeyError):
            found[column] = metric_info(column).definition
    return found
