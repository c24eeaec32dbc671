"""Comparison of objects and of panoptic segmentations with references.

Modules:
    comparison: numbered objects: found, split and merged ones, average precision.
    pairing: which predicted objects are compared with which reference objects.
    report: the reports; that of objects has pictures of the worst, middle and best cases.
    references: numbered objects with their classes, from label maps or from a dataset.
    scores: scores of compared objects, of a case, of all together and of each class.
    panoptic: COCO panoptic segmentations.
"""

from medseg.evaluation.objects.comparison import (
    OBJECTS_OUTPUT,
    OBJECTS_SUMMARY,
    OBJECTS_TABLE,
    ObjectEvaluation,
    compare_objects,
    evaluate_objects,
)
from medseg.evaluation.objects.panoptic import (
    PANOPTIC_OUTPUT,
    PANOPTIC_SUMMARY,
    PANOPTIC_TABLE,
    PanopticEvaluation,
    evaluate_panoptic,
)
from medseg.evaluation.objects.report import (
    write_objects_report,
    write_panoptic_report,
)

__all__ = [
    "OBJECTS_OUTPUT",
    "OBJECTS_SUMMARY",
    "OBJECTS_TABLE",
    "PANOPTIC_OUTPUT",
    "PANOPTIC_SUMMARY",
    "PANOPTIC_TABLE",
    "ObjectEvaluation",
    "PanopticEvaluation",
    "compare_objects",
    "evaluate_objects",
    "evaluate_panoptic",
    "write_objects_report",
    "write_panoptic_report",
]
