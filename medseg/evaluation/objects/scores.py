"""Scores of compared objects: of a case, of all cases together, and of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.geometry import Array
from medseg.metrics.instances import (
    DetectedObjects,
    Overlaps,
    PrecisionOptions,
    free_response_curve,
    instance_scores,
    match_objects,
    precision_table,
)

FOUND_IOU = 0.5
"""Least IoU of a reference object that counts as found."""

_OF_CASE = (
    "pooled_50", "pooled_mean", "f1_50", "f1_75", "f1_90", "pq", "sq", "rq", "aji_plus", "split", "merged",
)  # fmt: skip
OF_CLASS = ("pooled_50", "pooled_mean", "f1_50", "pq")


@dataclass(frozen=True)
class ComparedObjects:
    """The comparison of the objects of one case.

    Attributes:
        overlaps: of predicted and reference objects.
        ceiling: those of a perfect foreground.
        scores: of the predicted objects; None: not known.
        names: classes of the reference and of the predicted objects; None: not known.
    """

    overlaps: Overlaps
    ceiling: Overlaps
    scores: Array | None
    names: tuple[list[str], list[str]] | None = None

    def row(self) -> dict[str, Any]:
        """Return the scores of the case alone."""
        own = instance_scores([self.overlaps])
        counts = {
            "reference": len(self.overlaps.reference_sizes),
            "predicted": len(self.overlaps.predicted_sizes),
            "found": len(match_objects(self.overlaps, FOUND_IOU)),
        }
        return counts | {key: _finite(own[key]) for key in _OF_CASE}

    @property
    def is_perfect(self) -> bool:
        """Whether the objects of the prediction are exactly those of the reference."""
        sizes = self.overlaps.reference_sizes, self.overlaps.predicted_sizes
        return len(sizes[0]) == len(sizes[1]) == len(match_objects(self.overlaps, 1.0))

    def of_class(self, name: str) -> Overlaps:
        """Return the overlaps of the objects of one class."""
        assert self.names is not None
        first, second = (np.array([one == name for one in names], bool) for names in self.names)
        return self.overlaps.select(first, second)


def summarize_objects(compared: Sequence[ComparedObjects]) -> dict[str, Any]:
    """Return ``scores``, ``ceiling`` and ``classes`` of all cases together."""
    ceiling = instance_scores([one.ceiling for one in compared])
    return {"scores": scores_together(compared),
            "ceiling": {k: _finite(v) for k, v in ceiling.items()},
            "classes": _class_scores(compared)}  # fmt: skip


def scores_together(compared: Sequence[ComparedObjects]) -> dict[str, float | None]:
    """Return the scores of all objects as one class; average precision and FROC where all have scores."""
    scores = instance_scores([one.overlaps for one in compared])
    if all(one.scores is not None for one in compared):
        images = [_detected(one) for one in compared]
        scores |= precision_table(images, PrecisionOptions()).summary()
        scores["cpm"] = free_response_curve(images).cpm()
    return {key: _finite(value) for key, value in scores.items()}


def _class_scores(compared: Sequence[ComparedObjects]) -> dict[str, dict[str, float | None]]:
    """Return the scores of each class; nothing where there is one class, or classes are not known."""
    if any(one.names is None for one in compared):
        return {}
    names = sorted({name for one in compared if one.names is not None for side in one.names for name in side})
    if len(names) < 2:
        return {}
    table: dict[str, dict[str, float | None]] = {}
    for name in names:
        images = [one.of_class(name) for one in compared]
        own = instance_scores(images)
        row = {"reference": float(sum(len(one.reference_sizes) for one in images))}
        row |= {key: own[key] for key in OF_CLASS}
        if all(one.scores is not None for one in compared):
            row["ap50"] = precision_table([_detected(one, name) for one in compared]).average(iou=0.5)
        table[name] = {key: _finite(value) for key, value in row.items()}
    return table


def _detected(one: ComparedObjects, name: str | None = None) -> DetectedObjects:
    """Return the objects of a case: all of them as one class, or those of one class."""
    overlaps, scores = (one.overlaps if name is None else one.of_class(name)), one.scores
    assert scores is not None
    if name is not None:
        assert one.names is not None
        scores = scores[np.array([own == name for own in one.names[1]], bool)]
    kinds = [np.ones(len(sizes), np.int64) for sizes in (overlaps.reference_sizes, overlaps.predicted_sizes)]
    return DetectedObjects(overlaps, scores, kinds[0], kinds[1])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
