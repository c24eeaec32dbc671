"""Average precision of objects as COCO defines it (Lin et al. 2014, arXiv:1405.0312; cocoeval.py).

Differences from pycocotools: any number of detections, 2D and 3D, reference objects that are ignored without
being crowds; a score without reference objects is nan, not -1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from medseg.metrics.instances.overlaps import Flags, Indices, Numbers, Overlaps

COCO_IOUS = tuple(0.5 + 0.05 * step for step in range(10))
"""0.5, 0.55, …, 0.95."""
COCO_SIZES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Smallest and largest area of COCO's groups, in pixels."""
_RECALLS = np.linspace(0, 1, 101)
_HIGHEST = 1 - 1e-10


@dataclass(frozen=True)
class DetectedObjects:
    """Reference objects and detections of one image.

    Attributes:
        overlaps: of the masks or boxes.
        scores: (D,) of the detections.
        reference_classes: (G,).
        predicted_classes: (D,).
        crowd: (G,) whether a reference object is a group, which any number of detections may lie in; its
            overlap is the share of the detection. None: no object.
        ignored: (G,) whether a reference object counts neither as found nor as missed. None: no object.
        reference_areas: (G,) by which reference objects are grouped; None: their sizes.
    """

    overlaps: Overlaps
    scores: Numbers
    reference_classes: Indices
    predicted_classes: Indices
    crowd: Flags | None = None
    ignored: Flags | None = None
    reference_areas: Numbers | None = None


@dataclass(frozen=True)
class PrecisionOptions:
    """Settings of the average precision.

    Attributes:
        ious: thresholds over which the precision is averaged.
        sizes: name → smallest and largest area or volume, both included.
        detections: most detections of a class in an image; None: any number. COCO has 100.
    """

    ious: tuple[float, ...] = COCO_IOUS
    sizes: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(COCO_SIZES))
    detections: int | None = None


@dataclass(frozen=True)
class PrecisionTable:
    """Precision and recall; nan for classes without reference objects in a group of sizes.

    Attributes:
        classes: (K,) the classes.
        ious: (T,) the thresholds.
        sizes: (A,) names of the groups of sizes.
        precision: (T, 101, K, A) at recalls 0, 0.01, …, 1.
        recall: (T, K, A) of all detections.
    """

    classes: Indices
    ious: tuple[float, ...]
    sizes: tuple[str, ...]
    precision: Numbers
    recall: Numbers

    def average(self, *, iou: float | None = None, size: str = "all", class_index: int | None = None) -> float:
        """Return the average precision.

        Args:
            iou: one threshold; None: the mean over all.
            size: group of sizes.
            class_index: one class; None: the mean over all that have reference objects.
        """
        part = self.precision[self._thresholds(iou)][..., self.sizes.index(size)]
        return _mean(part if class_index is None else part[..., self.classes == class_index])

    def average_recall(self, *, iou: float | None = None, size: str = "all") -> float:
        """Return the recall; arguments as :meth:`average`."""
        return _mean(self.recall[self._thresholds(iou)][..., self.sizes.index(size)])

    def summary(self) -> dict[str, float]:
        """Return ``ap``, ``ap50``, ``ap75``, ``ar``, and ``ap_…`` and ``ar_…`` of each group of sizes."""
        result = {"ap": self.average()}
        result |= {f"ap{round(100 * iou)}": self.average(iou=iou) for iou in (0.5, 0.75) if self._has(iou)}
        result["ar"] = self.average_recall()
        for size in self.sizes:
            if size != "all":
                result |= {f"ap_{size}": self.average(size=size), f"ar_{size}": self.average_recall(size=size)}
        return result

    def _has(self, iou: float) -> bool:
        return any(math.isclose(iou, one) for one in self.ious)

    def _thresholds(self, iou: float | None) -> list[int]:
        if iou is None:
            return list(range(len(self.ious)))
        return [index for index, one in enumerate(self.ious) if math.isclose(iou, one)]


def precision_table(
    images: Sequence[DetectedObjects], options: PrecisionOptions | None = None
) -> PrecisionTable:
    """Compute precision and recall over a dataset.

    Args:
        images: in a fixed order, by which equal scores are ranked.
        options: thresholds, groups of sizes and the number of detections.

    Example:
        >>> from medseg.metrics.instances.overlaps import overlaps_of_label_maps
        >>> one = np.array([1])
        >>> overlaps = overlaps_of_label_maps(np.array([1, 1, 0]), np.array([1, 1, 0]))
        >>> table = precision_table([DetectedObjects(overlaps, np.array([0.9]), one, one)])
        >>> round(table.summary()["ap50"], 6)
        1.0
    """
    options = options or PrecisionOptions()
    found = [np.zeros(0, np.int64), *(image.reference_classes for image in images)]
    classes = np.unique(np.concatenate([*found, *(image.predicted_classes for image in images)]))
    shape = len(options.ious), len(classes), len(options.sizes)
    precision = np.full((shape[0], len(_RECALLS), *shape[1:]), np.nan)
    recall = np.full(shape, np.nan)
    for column, kind in enumerate(classes.tolist()):
        parts = [_of_class(image, kind, options.detections) for image in images]
        for group, limits in enumerate(options.sizes.values()):
            results = [_match(part, limits, options.ious) for part in parts if part is not None]
            curve = _accumulate(results, len(options.ious))
            if curve is not None:
                precision[:, :, column, group], recall[:, column, group] = curve
    return PrecisionTable(classes, options.ious, tuple(options.sizes), precision, recall)


class _ClassObjects(NamedTuple):
    """Objects of one class in one image; detections by decreasing score.

    Attributes:
        scores: (D,).
        predicted_areas, reference_areas: (D,) and (G,).
        crowd, ignored: (G,).
        starts: (D + 1,) position of the first pair of each detection.
        reference: (P,) reference object of each pair, in increasing order for each detection.
        ious: (P,).
    """

    scores: Numbers
    predicted_areas: Numbers
    reference_areas: Numbers
    crowd: Flags
    ignored: Flags
    starts: Indices
    reference: Indices
    ious: Numbers


class _Matches(NamedTuple):
    """Outcome of one image: scores (D,), whether detections are matched and ignored (T, D); objects to find."""

    scores: Numbers
    matched: Flags
    ignored: Flags
    objects: int


def _of_class(image: DetectedObjects, kind: int, most: int | None) -> _ClassObjects | None:
    """Return the objects of one class, at most so many detections; None if there are none."""
    own, other = image.reference_classes == kind, image.predicted_classes == kind
    if not own.any() and not other.any():
        return None
    part = image.overlaps.select(own, other)
    scores = image.scores[other]
    order = np.argsort(-scores, kind="stable")[:most]
    rank = np.full(len(scores), -1)
    rank[order] = np.arange(len(order))
    pairs = np.flatnonzero(rank[part.predicted] >= 0)
    pairs = pairs[np.lexsort((part.reference[pairs], rank[part.predicted[pairs]]))]
    none = np.zeros(int(own.sum()), bool)
    crowd = none if image.crowd is None else image.crowd[own]
    ignored = none if image.ignored is None else image.ignored[own]
    reference, predicted = part.reference[pairs], part.predicted[pairs]
    ious = np.where(crowd[reference], part.shared[pairs] / part.predicted_sizes[predicted], part.ious[pairs])
    areas = part.reference_sizes if image.reference_areas is None else image.reference_areas[own]
    starts = np.searchsorted(rank[predicted], np.arange(len(order) + 1))
    return _ClassObjects(
        scores[order], part.predicted_sizes[order], areas, crowd, ignored, starts, reference, ious
    )


def _match(part: _ClassObjects, limits: tuple[float, float], ious: tuple[float, ...]) -> _Matches:
    """Match detections greedily by score, each to the free object that it overlaps most, at every threshold."""
    low, high = limits
    outside = (part.reference_areas < low) | (part.reference_areas > high)
    ignored = part.crowd | part.ignored | outside
    least = np.minimum(np.array(ious), _HIGHEST)
    taken = np.zeros((len(least), len(ignored)), bool)
    count = len(part.scores)
    matched, left_out = np.zeros((len(least), count), bool), np.zeros((len(least), count), bool)
    for rank in np.flatnonzero(np.diff(part.starts)).tolist():
        pairs = slice(part.starts[rank], part.starts[rank + 1])
        objects, values = part.reference[pairs], part.ious[pairs]
        possible = (values >= least[:, None]) & (~taken[:, objects] | part.crowd[objects])
        if not possible.any():
            continue
        # objects that count come first; of equal overlaps, the last object
        value = np.where(possible, values + 2 * ~ignored[objects], -1.0)
        best = len(objects) - 1 - value[:, ::-1].argmax(axis=1)
        rows = np.flatnonzero(possible.any(axis=1))
        chosen = objects[best[rows]]
        taken[rows, chosen] = True
        matched[rows, rank] = True
        left_out[rows, rank] = ignored[chosen]
    beyond = (part.predicted_areas < low) | (part.predicted_areas > high)
    return _Matches(part.scores, matched, left_out | (~matched & beyond), int((~ignored).sum()))


def _accumulate(results: Sequence[_Matches], thresholds: int) -> tuple[Numbers, Numbers] | None:
    """Return precision (T, 101) and recall (T,) over all images; None without objects to find."""
    objects = sum(result.objects for result in results)
    if not objects:
        return None
    scores = np.concatenate([result.scores for result in results])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([result.matched for result in results], axis=1)[:, order]
    ignored = np.concatenate([result.ignored for result in results], axis=1)[:, order]
    hits = np.cumsum(matched & ~ignored, axis=1, dtype=np.float64)
    misses = np.cumsum(~matched & ~ignored, axis=1, dtype=np.float64)
    recalls = hits / objects
    precisions = hits / (hits + misses + np.spacing(1))
    precisions = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    curve = np.zeros((thresholds, len(_RECALLS)))
    for row in range(thresholds):
        index = np.searchsorted(recalls[row], _RECALLS, side="left")
        reached = index < len(order)
        curve[row, reached] = precisions[row, index[reached]]
    last = recalls[:, -1] if len(order) else np.zeros(thresholds)
    return curve, last


def _mean(values: Numbers) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
