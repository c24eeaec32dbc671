"""Voxel counts of two masks, and the scores computed from them.

Every score is a function of four Python integers, which cannot overflow. ``0 / 0`` is nan: a score without
voxels is undefined. If both masks are empty, Dice and IoU are nan; if one is empty, they are 0.
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
    """Numbers of true and false positives and negatives, in voxels."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def reference(self) -> int:
        """Foreground voxels of the reference."""
        return self.tp + self.fn

    @property
    def prediction(self) -> int:
        """Foreground voxels of the prediction."""
        return self.tp + self.fp


def count_overlap(reference: NDArray[Any], prediction: NDArray[Any]) -> Counts:
    """Count the overlap of two masks; nonzero values are foreground.

    Args:
        reference: mask (*S), any number of axes.
        prediction: mask (*S).

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> import numpy as np
        >>> count_overlap(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0]))
        Counts(tp=1, fp=1, fn=1, tn=1)
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
    """Intersection over union, TP / (TP + FP + FN) (Jaccard 1901)."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def precision(counts: Counts) -> float:
    """Positive predictive value, TP / (TP + FP); nan if the prediction is empty."""
    return _ratio(counts.tp, counts.prediction)


def recall(counts: Counts) -> float:
    """Sensitivity, TP / (TP + FN); nan if the reference is empty."""
    return _ratio(counts.tp, counts.reference)


def specificity(counts: Counts) -> float:
    """True negative rate, TN / (TN + FP); nan if the reference fills the array."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def accuracy(counts: Counts) -> float:
    """Fraction of correct voxels, (TP + TN) / all voxels."""
    return _ratio(counts.tp + counts.tn, counts.tp + counts.fp + counts.fn + counts.tn)


def f_beta(counts: Counts, beta: float) -> float:
    """F-beta score, (1 + β²)·TP / ((1 + β²)·TP + β²·FN + FP) (van Rijsbergen 1979); β > 1 favors recall."""
    weighted = (1 + beta**2) * counts.tp
    total = weighted + beta**2 * counts.fn + counts.fp
    return weighted / total if total else math.nan


def cohens_kappa(counts: Counts) -> float:
    """Cohen's kappa (Cohen 1960): agreement beyond chance; nan if both masks are empty or both are full."""
    total = counts.tp + counts.fp + counts.fn + counts.tn
    chance = counts.reference * counts.prediction + (total - counts.reference) * (total - counts.prediction)
    return _ratio((counts.tp + counts.tn) * total - chance, total**2 - chance)


def matthews_correlation(counts: Counts) -> float:
    """Matthews correlation coefficient (Matthews 1975).

    0 if one of the masks is empty or full and the other is not; nan if both are empty or both are full.
    """
    total = counts.tp + counts.fp + counts.fn + counts.tn
    margins = (counts.reference, counts.prediction, total - counts.reference, total - counts.prediction)
    if not all(margins):
        return 0.0 if counts.fp + counts.fn else math.nan
    return (counts.tp * counts.tn - counts.fp * counts.fn) / math.sqrt(math.prod(margins))


def volume_similarity(counts: Counts) -> float:
    """Volume similarity, 1 − |Vp − Vr| / (Vp + Vr) (Taha & Hanbury 2015, doi:10.1186/s12880-015-0068-x)."""
    return _ratio(2 * min(counts.reference, counts.prediction), counts.reference + counts.prediction)


def relative_volume_difference(counts: Counts) -> float:
    """Signed volume error, (Vp − Vr) / Vr, positive if Vp is too large; nan if the reference is empty."""
    return _ratio(counts.prediction - counts.reference, counts.reference)


def mean_defined(values: Iterable[float]) -> float:
    """Return the mean of the values that are not nan; nan if there are none.

    Example:
        >>> mean_defined([1.0, math.nan, 0.5])
        0.75
    """
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
