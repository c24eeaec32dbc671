"""Scores of objects: average precision, matched objects, panoptic quality, lesion detection."""

from medseg.metrics.instances.assignment import match_objects
from medseg.metrics.instances.average_precision import (
    COCO_SIZES,
    DetectedObjects,
    PrecisionOptions,
    PrecisionTable,
    precision_table,
)
from medseg.metrics.instances.counting import IOU_THRESHOLDS, MatchCounts, count_matches
from medseg.metrics.instances.froc import FreeResponseCurve, free_response_curve
from medseg.metrics.instances.overlaps import (
    Overlaps,
    counted_objects,
    overlaps_of_boxes,
    overlaps_of_label_maps,
    overlaps_of_masks,
)
from medseg.metrics.instances.panoptic import PanopticCounts, PanopticMap, count_panoptic, panoptic_scores
from medseg.metrics.instances.quality import (
    aggregated_jaccard,
    mean_aggregated_jaccard,
    panoptic_quality_of,
    split_and_merged,
)
from medseg.metrics.instances.summary import foreground_overlaps, instance_scores

__all__ = [
    "COCO_SIZES",
    "IOU_THRESHOLDS",
    "DetectedObjects",
    "FreeResponseCurve",
    "MatchCounts",
    "Overlaps",
    "PanopticCounts",
    "PanopticMap",
    "PrecisionOptions",
    "PrecisionTable",
    "aggregated_jaccard",
    "count_matches",
    "count_panoptic",
    "counted_objects",
    "foreground_overlaps",
    "free_response_curve",
    "instance_scores",
    "match_objects",
    "mean_aggregated_jaccard",
    "overlaps_of_boxes",
    "overlaps_of_label_maps",
    "overlaps_of_masks",
    "panoptic_quality_of",
    "panoptic_scores",
    "precision_table",
    "split_and_merged",
]
