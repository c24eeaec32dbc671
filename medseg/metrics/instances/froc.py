"""Free-response ROC: sensitivity against false positives per image, for the detection of lesions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.instances.average_precision import DetectedObjects

CPM_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which the competition performance metric averages the sensitivity."""


@dataclass(frozen=True)
class FreeResponseCurve:
    """Sensitivity and false positives per image for every threshold on the score, from the highest on.

    Attributes:
        thresholds: (M,) scores.
        sensitivity: (M,) share of the reference objects that are found; nan without reference objects.
        false_positives: (M,) false positives per image.
    """

    thresholds: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    false_positives: NDArray[np.float64]

    def sensitivity_at(self, rate: float) -> float:
        """Return the largest sensitivity with at most ``rate`` false positives per image."""
        if np.isnan(self.sensitivity).any():
            return math.nan
        reached = self.sensitivity[self.false_positives <= rate]
        return float(reached.max()) if len(reached) else 0.0

    def cpm(self, rates: Sequence[float] = CPM_RATES) -> float:
        """Return the mean sensitivity at several rates: the competition performance metric of LUNA16.

        Source: Setio et al. 2017, arXiv:1612.08012.
        """
        return float(np.mean([self.sensitivity_at(rate) for rate in rates]))


def free_response_curve(images: Sequence[DetectedObjects], iou: float = 0.1) -> FreeResponseCurve:
    """Compute the curve over a dataset; classes are not compared.

    A detection whose IoU with a reference object reaches the threshold is a hit; further hits of the same
    object are neither found objects nor false positives. Detections that hit only ignored objects or crowds do
    not count.

    Args:
        images: objects and detections of each image.
        iou: least IoU of a hit; 0.1 for lesions in 3D (Baumgartner et al. 2021, arXiv:2106.00817).
    """
    found, false, objects = [np.zeros(0)], [np.zeros(0)], 0
    for image in images:
        overlaps = image.overlaps
        count = len(overlaps.reference_sizes)
        skipped = np.zeros(count, bool)
        for flags in (image.crowd, image.ignored):
            skipped |= False if flags is None else flags
        hits = overlaps.ious >= iou
        reference, predicted = overlaps.reference[hits], overlaps.predicted[hits]
        best = np.full(count, -np.inf)
        np.maximum.at(best, reference, image.scores[predicted])
        found.append(best[~skipped & np.isfinite(best)])
        none = np.ones(len(overlaps.predicted_sizes), bool)
        none[predicted] = False
        false.append(image.scores[none])
        objects += int((~skipped).sum())
    scores, alarms = np.concatenate(found), np.concatenate(false)
    thresholds = np.unique(np.concatenate([scores, alarms]))[::-1]
    above = [len(one) - np.searchsorted(np.sort(one), thresholds, side="left") for one in (scores, alarms)]
    sensitivity = above[0] / objects if objects else np.full(len(thresholds), math.nan)
    if not objects and not len(thresholds):
        thresholds, sensitivity, above[1] = np.zeros(1), np.full(1, math.nan), np.zeros(1, np.int64)
    return FreeResponseCurve(thresholds, sensitivity, above[1] / max(1, len(images)))
