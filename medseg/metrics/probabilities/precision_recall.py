"""Precision–recall curve of the voxels of a class over thresholds of its probability."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def precision_recall_curve(
    probability: NDArray[Any], reference: NDArray[Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute precision and recall at every distinct probability.

    Args:
        probability: (*S) of the foreground.
        reference: mask (*S).

    Returns:
        Precision, recall and threshold (N,), thresholds descending: voxels with a probability of at least the
        threshold are foreground. Empty arrays without voxels; recall is nan if the reference is empty.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> precision, recall, _ = precision_recall_curve(np.array([0.9, 0.6, 0.4]), np.array([1, 0, 1]))
        >>> precision.round(2).tolist(), recall.tolist()
        ([1.0, 0.5, 0.67], [0.5, 0.5, 1.0])
    """
    check_same_shape(probability, reference)
    scores, hits = probability.ravel(), np.asarray(reference).ravel() != 0
    order = np.argsort(scores)[::-1]
    scores, tp = scores[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if scores.size else np.zeros(0, np.intp)
    return (*_rates(tp[last], last + 1, int(hits.sum())), scores[last].astype(np.float64))


def average_precision(probability: NDArray[Any], reference: NDArray[Any]) -> float:
    """Compute the average precision Σ (Rᵢ − Rᵢ₋₁)·Pᵢ over the distinct probabilities, as scikit-learn does.

    Args:
        probability: (*S) of the foreground.
        reference: mask (*S).

    Returns:
        The average precision; nan if the reference is empty.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> round(average_precision(np.array([0.9, 0.6, 0.4]), np.array([1, 0, 1])), 4)  # (1 + 2/3) / 2
        0.8333
    """
    precision, recall, _ = precision_recall_curve(probability, reference)
    return _area(precision, recall)


@dataclass
class PrecisionRecallCounts:
    """Voxels by probability, to which many cases can be added.

    Attributes:
        num_bins: equal bins of the probability; their lower edges are the thresholds of the curve.

    Example:
        >>> counts = PrecisionRecallCounts(num_bins=10)
        >>> counts.add(np.array([0.91, 0.62, 0.43]), np.array([1, 0, 1]))
        >>> round(counts.average_precision, 4)
        0.8333
    """

    num_bins: int = 1000
    positives: IntArray = field(init=False)
    negatives: IntArray = field(init=False)

    def __post_init__(self) -> None:
        if self.num_bins < 1:
            raise ValueError(f"num_bins is {self.num_bins}, expected at least 1")
        self.positives, self.negatives = np.zeros(self.num_bins, np.int64), np.zeros(self.num_bins, np.int64)

    def add(self, probability: NDArray[Any], reference: NDArray[Any]) -> None:
        """Add the voxels of a case: probabilities (*S) from 0 to 1 and a mask (*S).

        Raises:
            ValueError: if the shapes differ.
        """
        check_same_shape(probability, reference)
        scaled = probability.astype(np.float64).ravel() * self.num_bins
        positions = np.clip(np.floor(scaled), 0, self.num_bins - 1).astype(np.intp)
        hits = np.asarray(reference).ravel() != 0
        positives = np.bincount(positions[hits], minlength=self.num_bins)
        self.positives += positives
        self.negatives += np.bincount(positions, minlength=self.num_bins) - positives

    def __add__(self, other: PrecisionRecallCounts) -> PrecisionRecallCounts:
        """Join the voxels of two objects with the same number of bins."""
        if other.num_bins != self.num_bins:
            raise ValueError(f"the counts have {other.num_bins} bins, expected {self.num_bins}")
        total = PrecisionRecallCounts(self.num_bins)
        total.positives = self.positives + other.positives
        total.negatives = self.negatives + other.negatives
        return total

    def curve(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return precision, recall and threshold (N,) at the bins with voxels, thresholds descending."""
        filled = np.flatnonzero(self.positives + self.negatives)[::-1]
        tp = np.cumsum(self.positives[filled])
        predicted = tp + np.cumsum(self.negatives[filled])
        return (*_rates(tp, predicted, int(self.positives.sum())), filled / self.num_bins)

    @property
    def average_precision(self) -> float:
        """Average precision over the bins; nan if there is no positive voxel."""
        precision, recall, _ = self.curve()
        return _area(precision, recall)


def check_same_shape(probability: NDArray[Any], reference: NDArray[Any]) -> None:
    """Raise ValueError if the shapes of a probability map and its reference differ."""
    if probability.shape != np.shape(reference):
        raise ValueError(
            f"the probability map has shape {probability.shape}, expected the reference's {np.shape(reference)}"
        )


def _rates(tp: NDArray[Any], predicted: NDArray[Any], positives: int) -> tuple[FloatArray, FloatArray]:
    return tp / predicted, tp / (positives or math.nan)


def _area(precision: FloatArray, recall: FloatArray) -> float:
    return float((np.diff(recall, prepend=0.0) * precision).sum()) if recall.size else math.nan
