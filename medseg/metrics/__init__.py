"""Scores of segmentations: overlap, surface distances in mm, and their tables over cases.

Needs neither torch nor MONAI nor an image library: arrays in, numbers out. Arrays are in one axis order
with their spacing (mm). Both masks empty is nan, one empty is the worst value, and no mean hides either.
"""

from medseg.metrics.binary import binary_metrics
from medseg.metrics.boundary import boundary_iou
from medseg.metrics.calibration import calibration_metrics
from medseg.metrics.centerline import cldice
from medseg.metrics.confusion import confusion_matrix, dataset_scores
from medseg.metrics.instances import lesion_metrics, panoptic_quality
from medseg.metrics.surface import SurfaceDistances, surface_distances
from medseg.metrics.tables.case_rows import case_rows, worst_rows
from medseg.metrics.tables.summary import summarize, to_json, write_csv, write_summary

__all__ = [
    "SurfaceDistances",
    "binary_metrics",
    "boundary_iou",
    "calibration_metrics",
    "case_rows",
    "cldice",
    "confusion_matrix",
    "dataset_scores",
    "lesion_metrics",
    "panoptic_quality",
    "summarize",
    "surface_distances",
    "to_json",
    "worst_rows",
    "write_csv",
    "write_summary",
]
