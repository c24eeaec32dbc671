"""Comparison of objects and of panoptic segmentations with references.

Modules:
    comparison: numbered objects: found, split and merged ones, average precision.
    references: numbered objects with their classes, from label maps or from a dataset.
    panoptic: COCO panoptic segmentations.
"""

from medseg.evaluation.objects.comparison import (
    OBJECTS_SUMMARY,
    OBJECTS_TABLE,
    ObjectEvaluation,
    evaluate_objects,
)
from medseg.evaluation.objects.panoptic import PANOPTIC_SUMMARY, PanopticEvaluation, evaluate_panoptic

__all__ = [
    "OBJECTS_SUMMARY",
    "OBJECTS_TABLE",
    "PANOPTIC_SUMMARY",
    "ObjectEvaluation",
    "PanopticEvaluation",
    "evaluate_objects",
    "evaluate_panoptic",
]
