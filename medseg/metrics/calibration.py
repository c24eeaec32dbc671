"""Calibration of probabilities: calibration error, Brier score and log-likelihood over voxels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


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
    ece, mce = calibration_error(scores.max(axis=0), scores.argmax(axis=0) == reference, num_bins)
    with np.errstate(divide="ignore"):
        nll = float(-np.log(of_reference).mean())
    brier = float(((scores**2).sum(axis=0) - 2 * of_reference + 1).mean())
    return {"ece": ece, "mce": mce, "brier": brier, "nll": nll}


def calibration_error(
    confidence: FloatArray, correct: NDArray[np.bool_], num_bins: int = 15
) -> tuple[float, float]:
    """Compute the mean (weighted by size) and largest gap between confidence and correctness over bins.

    Args:
        confidence: (N,), from 0 to 1.
        correct: (N,).
        num_bins: bins (lo, hi] split (0, 1] evenly; a confidence of 0 belongs to the first.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    positions = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, num_bins - 1)
    sizes = np.bincount(positions, minlength=num_bins)
    surplus = np.bincount(positions, confidence - correct, minlength=num_bins)
    filled = sizes > 0
    gaps = np.abs(surplus[filled]) / sizes[filled]
    return float((gaps * sizes[filled]).sum() / sizes.sum()), float(gaps.max())
