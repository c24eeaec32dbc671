"""Voxel counts of two masks, and the scores read from them.

Every score is a function of four Python integers, so nothing can wrap around. ``0 / 0`` is nan: a score
that has no voxels to speak of is undefined, never 0 or 1. So with both masks empty Dice and IoU are nan,
with one empty they are 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import as_mask, check_shapes


@dataclass(frozen=True, slots=True)
class Counts:
    """Voxels where reference and prediction agree and differ: true and false positives and negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def reference(self) -> int:
        """Voxels of the reference's foreground."""
        return self.tp + self.fn

    @property
    def prediction(self) -> int:
        """Voxels of the prediction's foreground."""
        return self.tp + self.fp


def count_overlap(reference: NDArray[Any], prediction: NDArray[Any]) -> Counts:
    """Count the agreement of two masks of one shape (any number of axes; not zero is foreground).

    Raises: ValueError if the shapes differ.
    """
    check_shapes(reference, prediction)
    reference, prediction = as_mask(reference), as_mask(prediction)
    tp = int(np.count_nonzero(reference & prediction))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(reference)) - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=reference.size - tp - fp - fn)


def dice(counts: Counts, *, empty: float = math.nan) -> float:
    """Dice coefficient 2·TP / (2·TP + FP + FN) (Dice 1945; Sørensen 1948).

    This is the only definition of Dice in medseg: evaluation, validation and the search for postprocessing
    steps use it.

    Args:
        counts: voxel counts, see ``count_overlap``.
        empty: value if both masks are empty, for which Dice is undefined. The default, nan, is left out of
            means by ``mean_defined``; challenges that count an empty pair as a match use 1.

    Example:
        >>> dice(Counts(tp=2, fp=1, fn=1, tn=0))
        0.6666666666666666
        >>> dice(Counts(tp=0, fp=0, fn=0, tn=4)), dice(Counts(tp=0, fp=0, fn=0, tn=4), empty=1.0)
        (nan, 1.0)
    """
    total = 2 * counts.tp + counts.fp + counts.fn
    return 2 * counts.tp / total if total else empty


def dice_score(reference: NDArray[Any], prediction: NDArray[Any], *, empty: float = math.nan) -> float:
    """Dice coefficient of two masks; nonzero values are foreground.

    Args:
        reference: mask (*S).
        prediction: mask (*S).
        empty: value if both masks are empty, see ``dice``.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> import numpy as np
        >>> dice_score(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]))
        0.6666666666666666
    """
    return dice(count_overlap(reference, prediction), empty=empty)


def iou(counts: Counts) -> float:
    """TP / (TP + FP + FN) (Jaccard 1901)."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def precision(counts: Counts) -> float:
    """TP / (TP + FP), the positive predictive value; nan if nothing is predicted."""
    return _ratio(counts.tp, counts.prediction)


def recall(counts: Counts) -> float:
    """TP / (TP + FN), the sensitivity; nan if the reference is empty."""
    return _ratio(counts.tp, counts.reference)


def specificity(counts: Counts) -> float:
    """TN / (TN + FP); nan if the reference fills the array."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def accuracy(counts: Counts) -> float:
    """(TP + TN) / all voxels."""
    return _ratio(counts.tp + counts.tn, counts.tp + counts.fp + counts.fn + counts.tn)


def volume_similarity(counts: Counts) -> float:
    """1 − |Vp − Vr| / (Vp + Vr), from 0 to 1 (Taha & Hanbury 2015, doi:10.1186/s12880-015-0068-x)."""
    return _ratio(2 * min(counts.reference, counts.prediction), counts.reference + counts.prediction)


def relative_volume_difference(counts: Counts) -> float:
    """(Vp − Vr) / Vr, signed: above 0 the prediction is too large; nan if the reference is empty."""
    return _ratio(counts.prediction - counts.reference, counts.reference)


def mean_defined(values: Iterable[float]) -> float:
    """The mean of the values that are defined; nan if none is."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
