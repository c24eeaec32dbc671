"""All scores of objects of a dataset, and what a perfect foreground would reach."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from medseg.metrics.instances.counting import IOU_THRESHOLDS, count_matches
from medseg.metrics.instances.overlaps import Array, Overlaps, overlaps_of_label_maps
from medseg.metrics.instances.quality import mean_aggregated_jaccard, panoptic_quality_of, split_and_merged

SCORE_TITLES = {
    "pooled_50": "TP/(TP+FP+FN) at IoU 0.5, all images together",
    "pooled_mean": "the same, mean over IoU 0.5:0.95",
    "per_image_50": "TP/(TP+FP+FN) at IoU 0.5, mean over images",
    "per_image_mean": "the same, mean over IoU 0.5:0.95",
    "f1_50": "F1 at IoU 0.5",
    "f1_75": "F1 at IoU 0.75",
    "f1_90": "F1 at IoU 0.9",
    "ap": "COCO AP (IoU 0.5:0.95)",
    "ap50": "COCO AP50",
    "ap75": "COCO AP75",
    "pq": "PQ",
    "sq": "SQ",
    "rq": "RQ",
    "aji_plus": "AJI+, mean over images",
    "cpm": "CPM (FROC at IoU 0.1)",
    "count_mae": "error of the count, mean absolute",
    "count_bias": "error of the count, mean",
    "split": "split objects",
    "merged": "merging objects",
}
"""Scores that are shown, in this order, and their names."""


def instance_scores(images: Sequence[Overlaps]) -> dict[str, float]:
    """Return the scores of objects without classes and scores of detections.

    Args:
        images: overlaps of each image.

    Returns:
        ``pooled_50`` and ``pooled_mean``: TP / (TP + FP + FN) of all images together at an IoU of 0.5, and in
        the mean over 0.5 to 0.95; ``per_image_50`` and ``per_image_mean``: means over images; ``f1_50``,
        ``f1_75``, ``f1_90``, ``precision_50``, ``recall_50``; ``pq``, ``sq``, ``rq``; ``aji_plus``,
        ``aji_plus_pooled``; errors of the count; ``split`` and ``merged``, numbers of objects.

    Example:
        >>> image = overlaps_of_label_maps(np.array([1, 1, 0, 2]), np.array([1, 1, 0, 0]))
        >>> scores = instance_scores([image])
        >>> scores["pooled_50"], scores["count_bias"]
        (0.5, -1.0)
    """
    counts = count_matches(images, IOU_THRESHOLDS)
    pooled, per_image = counts.pooled(), counts.per_image()
    errors = np.array([split_and_merged(image) for image in images]).reshape(-1, 2).sum(axis=0)
    return {
        "pooled_50": float(pooled[0]),
        "pooled_mean": float(pooled.mean()),
        "per_image_50": float(per_image[0]),
        "per_image_mean": float(per_image.mean()),
        **{f"f1_{round(100 * IOU_THRESHOLDS[k])}": float(counts.f1()[k]) for k in (0, 5, 8)},
        "precision_50": float(counts.precision()[0]),
        "recall_50": float(counts.recall()[0]),
        **panoptic_quality_of(images),
        **mean_aggregated_jaccard(images),
        **counts.count_errors(),
        "split": float(errors[0]),
        "merged": float(errors[1]),
    }


def foreground_overlaps(reference: Array, ignored: Array | None = None) -> Overlaps:
    """Return the overlaps of objects with the connected components of all objects together.

    Their scores are the ceiling of a semantic segmentation: what a perfect foreground reaches if touching
    objects stay together. Diagonal neighbors are connected.

    Args:
        reference: (*S) numbers of objects, 0 for background.
        ignored: (*S) bool.

    Example:
        >>> reference = np.array([[1, 1, 1, 2, 2], [0, 0, 0, 0, 0], [3, 3, 0, 0, 0]])
        >>> instance_scores([foreground_overlaps(reference)])["pooled_50"]
        0.6666666666666666
    """
    cc3d: Any = import_module("cc3d")
    connectivity = 8 if reference.ndim == 2 else 26
    components = cc3d.connected_components(np.ascontiguousarray(reference > 0), connectivity=connectivity)
    return overlaps_of_label_maps(reference, np.asarray(components), ignored)
