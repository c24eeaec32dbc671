"""Scores of segmentations: overlap, surface distances in mm, and tables of scores over cases.

The package needs NumPy, SciPy, scikit-image and cc3d only. Arrays have one axis order, and their spacing is
given in mm in that order. Scores of two empty masks are nan, which means leave out; if one mask is empty,
scores have their worst value, which means include.
"""

from medseg.metrics.binary import binary_metrics
from medseg.metrics.boundary import boundary_iou
from medseg.metrics.case.measure import measure_case
from medseg.metrics.case.options import Like, MeasureOptions, MetricGroup, Unit
from medseg.metrics.confusion import IntArray, confusion_matrix, dataset_scores
from medseg.metrics.definitions import MetricInfo, metric_info
from medseg.metrics.lesions.challenges import autopet_volumes, brats_lesion_scores
from medseg.metrics.lesions.detection import LesionOptions, lesion_metrics, lesion_table
from medseg.metrics.lesions.panoptic import panoptic_quality
from medseg.metrics.overlap import Counts, count_overlap, dice, dice_score, iou, mean_defined
from medseg.metrics.probabilities.calibration import binary_calibration, calibration_metrics
from medseg.metrics.probabilities.precision_recall import (
    PrecisionRecallCounts,
    average_precision,
    precision_recall_curve,
)
from medseg.metrics.probabilities.reliability import ReliabilityCurve
from medseg.metrics.surface import Surface, SurfaceDistances, surface_distances
from medseg.metrics.tables.case_rows import ScoreOptions, case_rows, worst_rows
from medseg.metrics.tables.export import long_rows, to_json, write_csv, write_summary
from medseg.metrics.tables.missed_structures import MissPolicy
from medseg.metrics.tables.paper import latex_table, markdown_table
from medseg.metrics.tables.summary import summarize
from medseg.metrics.topology.betti import betti_numbers
from medseg.metrics.topology.centerline import cldice

__all__ = [
    "Counts",
    "IntArray",
    "LesionOptions",
    "Like",
    "MeasureOptions",
    "MetricGroup",
    "MetricInfo",
    "MissPolicy",
    "PrecisionRecallCounts",
    "ReliabilityCurve",
    "ScoreOptions",
    "Surface",
    "SurfaceDistances",
    "Unit",
    "autopet_volumes",
    "average_precision",
    "betti_numbers",
    "binary_calibration",
    "binary_metrics",
    "boundary_iou",
    "brats_lesion_scores",
    "calibration_metrics",
    "case_rows",
    "cldice",
    "confusion_matrix",
    "count_overlap",
    "dataset_scores",
    "dice",
    "dice_score",
    "iou",
    "latex_table",
    "lesion_metrics",
    "lesion_table",
    "long_rows",
    "markdown_table",
    "mean_defined",
    "measure_case",
    "metric_info",
    "panoptic_quality",
    "precision_recall_curve",
    "summarize",
    "surface_distances",
    "to_json",
    "worst_rows",
    "write_csv",
    "write_summary",
]
