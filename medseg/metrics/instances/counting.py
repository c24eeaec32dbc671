"""Found, missed and invented objects: TP / (TP + FP + FN), F1, precision, recall, errors of counting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.instances.assignment import match_objects
from medseg.metrics.instances.overlaps import Overlaps

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.5, 0.55, …, 0.95."""


@dataclass(frozen=True)
class MatchCounts:
    """Numbers of objects of a dataset, image by image and threshold by threshold.

    Attributes:
        thresholds: (T,) least IoU of a match.
        matched: (N, T) true positives of each image.
        reference: (N,) reference objects.
        predicted: (N,) predicted objects.

    Example:
        >>> counts = MatchCounts((0.5,), np.array([[2], [0]]), np.array([2, 1]), np.array([3, 0]))
        >>> counts.pooled().tolist(), counts.per_image().tolist()
        ([0.5], [0.3333333333333333])
    """

    thresholds: tuple[float, ...]
    matched: NDArray[np.int64]
    reference: NDArray[np.int64]
    predicted: NDArray[np.int64]

    def pooled(self) -> NDArray[np.float64]:
        """Return TP / (TP + FP + FN) of all images together, (T,); nan without objects."""
        return _ratio(self.matched.sum(axis=0), self._union().sum(axis=0))

    def per_image(self) -> NDArray[np.float64]:
        """Return the mean of TP / (TP + FP + FN) over the images, (T,); images without objects are left out.

        This is "AP" of StarDist, Cellpose and Kaggle's Data Science Bowl 2018; it is no average precision.
        """
        values = _ratio(self.matched, self._union())
        known = ~np.isnan(values).any(axis=1)
        return values[known].mean(axis=0) if known.any() else np.full(len(self.thresholds), math.nan)

    def f1(self) -> NDArray[np.float64]:
        """Return 2 TP / (2 TP + FP + FN) of all images together, (T,)."""
        total = self.reference.sum() + self.predicted.sum()
        return _ratio(2 * self.matched.sum(axis=0), np.full(len(self.thresholds), total))

    def precision(self) -> NDArray[np.float64]:
        """Return TP / (TP + FP) of all images together, (T,)."""
        return _ratio(self.matched.sum(axis=0), np.full(len(self.thresholds), self.predicted.sum()))

    def recall(self) -> NDArray[np.float64]:
        """Return TP / (TP + FN) of all images together, (T,)."""
        return _ratio(self.matched.sum(axis=0), np.full(len(self.thresholds), self.reference.sum()))

    def count_errors(self) -> dict[str, float]:
        """Return the errors of the number of objects.

        ``count_bias`` is the mean of predicted less reference, ``count_mae`` the mean absolute error, and
        ``count_relative`` the mean absolute error by the reference, over images with reference objects.
        """
        error = (self.predicted - self.reference).astype(np.float64)
        some = self.reference > 0
        relative = np.abs(error[some]) / self.reference[some]
        return {
            "count_bias": float(error.mean()) if len(error) else math.nan,
            "count_mae": float(np.abs(error).mean()) if len(error) else math.nan,
            "count_relative": float(relative.mean()) if len(relative) else math.nan,
        }

    def _union(self) -> NDArray[np.int64]:
        return (self.reference + self.predicted)[:, None] - self.matched


def count_matches(images: Sequence[Overlaps], thresholds: Sequence[float] = IOU_THRESHOLDS) -> MatchCounts:
    """Match the objects of images one to one at several thresholds; classes are not compared.

    Args:
        images: overlaps of each image.
        thresholds: least IoU of a match.
    """
    matched = [[len(match_objects(image, threshold)) for threshold in thresholds] for image in images]
    return MatchCounts(
        tuple(thresholds),
        np.array(matched, np.int64).reshape(-1, len(thresholds)),
        np.array([len(image.reference_sizes) for image in images], np.int64),
        np.array([len(image.predicted_sizes) for image in images], np.int64),
    )


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), math.nan)
