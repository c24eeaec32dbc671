"""Calibration of probabilities: calibration error, Brier score and log-likelihood over voxels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.probabilities.precision_recall import (
    PrecisionRecallCounts,
    average_precision,
    check_same_shape,
)
from medseg.metrics.probabilities.reliability import ReliabilityCurve

_BLOCK = 2**22
_RANKING_BINS = 2**16


def calibration_metrics(
    probabilities: NDArray[Any],
    reference_index: NDArray[Any],
    *,
    num_bins: int = 15,
    ignore_index: int | None = None,
) -> dict[str, float]:
    """Compute how well class probabilities match the reference, over all voxels.

    Args:
        probabilities: (K, *S); normalized to a sum of 1 in double precision.
        reference_index: class indices (*S).
        num_bins: number of equal bins (lo, hi] of the confidence.
        ignore_index: reference value of voxels to leave out.

    Returns:
        Keys: ece and mce, the mean (weighted by voxels) and largest gap between confidence and accuracy of the
        most probable class over the bins (Guo et al. 2017, arXiv:1706.04599); brier, the mean over voxels of
        the squared error summed over classes; nll, the mean negative natural logarithm of the probability of
        the reference class (inf if that is 0). Without voxels all are nan.

    Raises:
        ValueError: if the shapes do not match, a class index is out of range or num_bins is below 1.

    Example:
        >>> import numpy as np
        >>> probabilities = np.array([[0.75, 0.25], [0.25, 0.75]])  # 2 classes, 2 voxels
        >>> calibration_metrics(probabilities, np.array([0, 1]))["brier"]
        0.125
    """
    if probabilities.shape[1:] != reference_index.shape:
        raise ValueError(
            f"probabilities have shape {probabilities.shape}, expected (classes, *{reference_index.shape})"
        )
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, expected at least 1")
    scores = probabilities.reshape(len(probabilities), -1).astype(np.float64)
    reference = reference_index.ravel()
    if ignore_index is not None:
        counted = reference != ignore_index
        scores, reference = scores[:, counted], reference[counted]
    if not reference.size:
        return dict.fromkeys(("ece", "mce", "brier", "nll"), math.nan)
    if not (int(reference.min()) >= 0 and int(reference.max()) < len(scores)):
        raise ValueError(
            f"the reference contains class indices from {reference.min()} to {reference.max()}, "
            f"expected 0 to {len(scores) - 1}"
        )
    scores /= scores.sum(axis=0)
    of_reference = scores[reference, np.arange(reference.size)]
    curve = ReliabilityCurve(num_bins)
    curve.add(scores.max(axis=0), scores.argmax(axis=0) == reference)
    with np.errstate(divide="ignore"):
        nll = float(-np.log(of_reference).mean())
    brier = float(((scores**2).sum(axis=0) - 2 * of_reference + 1).mean())
    return {"ece": curve.ece, "mce": curve.mce, "brier": brier, "nll": nll}


def binary_calibration(
    probability: NDArray[Any], reference: NDArray[Any], *, num_bins: int = 15
) -> dict[str, float]:
    """Compute how well the probability of one class matches its mask, over all voxels.

    Args:
        probability: (*S) of the foreground; rounded values beyond 0 and 1 count as 0 and 1.
        reference: mask (*S).
        num_bins: number of equal bins (lo, hi] of the probability.

    Returns:
        Keys: ece, the mean gap between probability and frequency over the bins, weighted by voxels; brier, the
        mean squared error; nll, the mean negative natural logarithm of the probability of the reference's value
        (inf if one is 0); average_precision (nan if the mask is empty; of probabilities rounded down to 1/65536
        for more than 4 million voxels). Without voxels all are nan.

    Raises:
        ValueError: if the shapes differ or num_bins is below 1.

    Example:
        >>> import numpy as np
        >>> scores = binary_calibration(np.array([0.9, 0.6, 0.4]), np.array([1, 0, 1]))
        >>> round(scores["brier"], 4)  # (0.01 + 0.36 + 0.36) / 3
        0.2433
    """
    check_same_shape(probability, reference)
    values, hits = probability.reshape(-1), np.asarray(reference).reshape(-1) != 0
    if not values.size:
        return dict.fromkeys(("ece", "brier", "nll", "average_precision"), math.nan)
    curve, ranking = ReliabilityCurve(num_bins), PrecisionRecallCounts(_RANKING_BINS)
    squares = logarithms = 0.0
    for start in range(0, values.size, _BLOCK):
        part, hit = values[start : start + _BLOCK].astype(np.float64), hits[start : start + _BLOCK]
        np.clip(part, 0.0, 1.0, out=part)
        curve.add(part, hit)
        squares += float(np.square(part - hit).sum())
        with np.errstate(divide="ignore"):
            logarithms -= float(np.log(np.where(hit, part, 1 - part)).sum())
        if values.size > _BLOCK:
            ranking.add(part, hit)
    return {
        "ece": curve.ece,
        "brier": squares / values.size,
        "nll": logarithms / values.size,
        "average_precision": (
            ranking.average_precision if values.size > _BLOCK else average_precision(values, hits)
        ),
    }
