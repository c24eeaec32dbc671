"""Panoptic quality, aggregated Jaccard index, and objects that are split or merged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medseg.metrics.instances.assignment import best_pairs
from medseg.metrics.instances.overlaps import Overlaps

_MOST = 0.5
"""Share above which an object lies mostly in another one."""
_PART = 0.1
"""Least share of an object that a part covers, for the object to count as split."""


def panoptic_quality_of(images: Sequence[Overlaps]) -> dict[str, float]:
    """Return PQ, SQ and RQ of one class (Kirillov et al. 2019, arXiv:1801.00868), pooled over images.

    A match has an IoU above 0.5, so that the objects of one image must not overlap each other.

    Args:
        images: overlaps of each image, without ignored voxels.

    Returns:
        ``pq`` (= ``sq`` · ``rq``), ``sq``, the mean IoU of matches, and ``rq``, F1; nan without objects.
    """
    ious, objects = 0.0, 0
    count = 0
    for image in images:
        values = image.ious
        values = values[values > 0.5]
        ious += float(values.sum())
        count += len(values)
        objects += len(image.reference_sizes) + len(image.predicted_sizes)
    sq = ious / count if count else (0.0 if objects else math.nan)
    rq = 2 * count / objects if objects else math.nan
    return {"pq": sq * rq, "sq": sq, "rq": rq}


def aggregated_jaccard(image: Overlaps) -> tuple[float, float]:
    """Return numerator and denominator of AJI+ (Graham et al. 2019, arXiv:1812.06499) of one image.

    Objects are matched one to one so that the sum of IoU is largest. The numerator is what matched objects
    share, the denominator their unions and all objects without a match. AJI+ of an image is the ratio; of a
    dataset, the mean over images, or the ratio of sums.
    """
    every = np.arange(len(image.shared))
    chosen = best_pairs(image, every, image.ious)
    shared = image.shared[chosen].sum()
    return float(shared), float(image.reference_sizes.sum() + image.predicted_sizes.sum() - shared)


def mean_aggregated_jaccard(images: Sequence[Overlaps]) -> dict[str, float]:
    """Return AJI+ as mean over images (``aji_plus``) and of sums (``aji_plus_pooled``); nan without objects."""
    parts = np.array([aggregated_jaccard(image) for image in images]).reshape(-1, 2)
    some = parts[parts[:, 1] > 0]
    if not len(some):
        return {"aji_plus": math.nan, "aji_plus_pooled": math.nan}
    pooled = some[:, 0].sum() / some[:, 1].sum()
    return {"aji_plus": float((some[:, 0] / some[:, 1]).mean()), "aji_plus_pooled": float(pooled)}


def split_and_merged(image: Overlaps) -> tuple[int, int]:
    """Count the reference objects that are split, and the predicted objects that merge several.

    A reference object is split if at least two predicted objects lie in it by more than half, each of which
    covers at least a tenth of it. A predicted object merges several if at least two reference objects lie in it
    by more than half.
    """
    of_predicted = image.shared / image.predicted_sizes[image.predicted]
    of_reference = image.shared / image.reference_sizes[image.reference]
    parts = image.reference[(of_predicted > _MOST) & (of_reference >= _PART)]
    wholes = image.predicted[of_reference > _MOST]
    split = int((np.bincount(parts, minlength=1) > 1).sum())
    return split, int((np.bincount(wholes, minlength=1) > 1).sum())
