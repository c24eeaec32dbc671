"""Panoptic quality of instances."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from medseg.metrics.checks import check_shapes
from medseg.metrics.lesions.components import instance_overlaps, number_instances


def panoptic_quality(reference: NDArray[Any], prediction: NDArray[Any]) -> dict[str, float]:
    """Compute the panoptic quality of one class (Kirillov et al. 2019, arXiv:1801.00868, equation 1).

    Instances match if their IoU is above 0.5, which is possible for one pair only.

    Args:
        reference: integer instance ids (*S); 0 is background, the order of the ids is arbitrary.
        prediction: integer instance ids (*S).

    Returns:
        Keys: tp, fp, fn; sq (mean IoU of the matches), rq (F1 of the detection), pq = sq · rq, which is 0
        without a match. If there is no instance in either array, rq and pq are nan.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> import numpy as np
        >>> panoptic_quality(np.array([1, 1, 0, 2]), np.array([5, 5, 0, 0]))["rq"]  # 1 of 2 instances
        0.6666666666666666
    """
    check_shapes(reference, prediction)
    overlaps = instance_overlaps(number_instances(reference), number_instances(prediction))
    ious = overlaps.ious[overlaps.ious > 0.5]
    tp, total = len(ious), overlaps.n_reference + overlaps.n_prediction
    return {
        "tp": tp,
        "fp": overlaps.n_prediction - tp,
        "fn": overlaps.n_reference - tp,
        "sq": _ratio(float(ious.sum()), tp),
        "rq": _ratio(2 * tp, total),
        "pq": _ratio(2 * float(ious.sum()), total),
    }


def _ratio(numerator: float, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
