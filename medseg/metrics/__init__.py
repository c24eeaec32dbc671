"""Scores of segmentations: overlap, surface distances in mm, and tables of scores over cases.

The package needs NumPy, SciPy, scikit-image and cc3d only. Arrays have one axis order, and their spacing is
given in mm in that order. Scores of two empty masks are nan, which means leave out; if one mask is empty,
scores have their worst value, which means include.
"""

from medseg.metrics.binary import binary_metrics
from medseg.metrics.boundary import boundary_iou
from medseg.metrics.calibration import calibration_metrics
from medseg.metrics.centerline import cldice
from medseg.metrics.confusion import IntArray, confusion_matrix, dataset_scores
from medseg.metrics.instances import lesion_metrics, panoptic_quality
from medseg.metrics.overlap import Counts, count_overlap, dice, dice_score, iou, mean_defined
from medseg.metrics.surface import Surface, SurfaceDistances, surface_distances
from medseg.metrics.tables.case_rows import ScoreOptions, Unit, case_rows, worst_rows
from medseg.metrics.tables.summary import summarize, to_json, write_csv, write_summary

__all__ = [
    "Counts",
    "IntArray",
    "ScoreOptions",
    "Surface",
    "SurfaceDistances",
    "Unit",
    "binary_metrics",
    "boundary_iou",
    "calibration_metrics",
    "case_rows",
    "cldice",
    "confusion_matrix",
    "count_overlap",
    "dataset_scores",
    "dice",
    "dice_score",
    "iou",
    "lesion_metrics",
    "mean_defined",
    "panoptic_quality",
    "summarize",
    "surface_distances",
    "to_json",
    "worst_rows",
    "write_csv",
    "write_summary",
]
