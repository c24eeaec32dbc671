"""Pairs of reference and predicted objects, and the scores that follow from their number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.geometry import Array

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""0.5, 0.55, …, 0.95."""


@dataclass(frozen=True)
class MatchedObjects:
    """The objects of one image and the IoU of each pair that overlaps by more than half.

    An object has at most one such partner, so the pairs of all thresholds from 0.5 on follow.

    Attributes:
        reference: number of reference objects.
        predicted: number of predicted objects.
        pairs: (P, 2) numbers of the reference and the predicted object.
        ious: (P,) IoU of each pair, above 0.5.
        left_out: numbers of the predicted objects that lie mostly in ignored voxels.
    """

    reference: int
    predicted: int
    pairs: NDArray[np.int64]
    ious: NDArray[np.float64]
    left_out: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def scored(self, scores: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return the scores of the predicted objects that count, and whether each matches a reference object.

        Args:
            scores: (N,) of the predicted objects 1 … N.
        """
        hit, counts = np.zeros(len(scores), bool), np.ones(len(scores), bool)
        hit[self.pairs[:, 1] - 1] = True
        counts[self.left_out - 1] = False
        return scores[counts], hit[counts]

    def counts(self, threshold: float = 0.5) -> tuple[int, int, int]:
        """Return the numbers of true positives, false positives and false negatives."""
        tp = int((self.ious > threshold).sum()) if threshold <= 0.5 else int((self.ious >= threshold).sum())
        return tp, self.predicted - tp, self.reference - tp


def match_objects(reference: Array, predicted: Array, ignored: Array | None = None) -> MatchedObjects:
    """Match the objects of two label maps.

    Args:
        reference: (*S) non-negative integers, 0 for background.
        predicted: (*S) likewise.
        ignored: (*S) bool, voxels that do not count; predicted objects that lie mostly there are left out.

    Example:
        >>> match_objects(np.array([1, 1, 0, 2]), np.array([5, 5, 5, 0])).counts()
        (1, 0, 1)
    """
    size_of_predicted = np.bincount(predicted.ravel())
    left_out = np.zeros(0, np.int64)
    if ignored is not None and ignored.any():
        reference, inside = np.where(ignored, 0, reference), np.where(ignored, 0, predicted)
        kept = 2 * np.bincount(inside.ravel(), minlength=len(size_of_predicted)) > size_of_predicted
        kept[0] = True
        left_out = np.flatnonzero(~kept & (size_of_predicted > 0))
        predicted = np.where(kept[predicted], inside, 0)
        size_of_predicted = np.bincount(predicted.ravel(), minlength=len(size_of_predicted))
    sizes = np.bincount(reference.ravel())
    both = (reference > 0) & (predicted > 0)
    keys = reference[both].astype(np.int64) * len(size_of_predicted) + predicted[both]
    pairs, shared = np.unique(keys, return_counts=True)
    first, second = np.divmod(pairs, len(size_of_predicted))
    ious = shared / (sizes[first] + size_of_predicted[second] - shared)
    good = ious > 0.5
    return MatchedObjects(
        int((sizes[1:] > 0).sum()),
        int((size_of_predicted[1:] > 0).sum()),
        np.stack([first, second], axis=1)[good],
        ious[good],
        left_out,
    )


def pooled_score(matches: Iterable[MatchedObjects], threshold: float = 0.5) -> float:
    """Return TP / (TP + FP + FN), with the numbers of all images added; nan without objects."""
    tp, fp, fn = np.sum([[0, 0, 0], *(one.counts(threshold) for one in matches)], axis=0)
    total = int(tp + fp + fn)
    return float(tp) / total if total else float("nan")


def mean_pooled_score(matches: Sequence[MatchedObjects]) -> float:
    """Return the mean of :func:`pooled_score` over the thresholds 0.5 to 0.95."""
    return float(np.mean([pooled_score(matches, threshold) for threshold in THRESHOLDS]))
