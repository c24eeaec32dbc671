"""Lesion-wise detection: connected components found, missed and made up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.boxes import crop_pair
from medseg.metrics.checks import as_mask, check_shapes
from medseg.metrics.untyped import best_pairs, components

FloatArray = NDArray[np.float64]
CountArray = NDArray[np.int64]


def lesion_metrics(
    reference: NDArray[Any], prediction: NDArray[Any], *, min_iou: float = 0.1
) -> dict[str, float]:
    """Detection scores over the connected components of two masks (8 neighbours in 2D, 26 in 3D).

    Shapes: (*S), 2 or 3 axes. Keys: n_reference, n_prediction (components); sensitivity_any,
    precision_any (fraction that touches any component of the other mask); tp, fp, fn, sensitivity,
    precision, f1 of the one-to-one matching with the largest summed IoU, pairs below ``min_iou`` left
    out; mean_iou of the matched pairs. 0 / 0 is nan.
    Raises: ValueError if the shapes differ, are not of 2 or 3 axes, or min_iou is not in (0, 1].
    """
    check_shapes(reference, prediction)
    if reference.ndim not in (2, 3):
        raise ValueError(f"got an array of {reference.ndim} axes, expected 2 or 3")
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou is {min_iou}, expected above 0 and at most 1")
    one, two = (components(mask) for mask in crop_pair(as_mask(reference), as_mask(prediction)))
    shared = _overlaps(one, two)
    met_reference, met_prediction = (np.count_nonzero(shared[1:, 1:].any(axis=axis)) for axis in (1, 0))
    n_reference, n_prediction = (size - 1 for size in shared.shape)
    matched = _matched_ious(shared, min_iou)
    tp = len(matched)
    return {
        "n_reference": n_reference,
        "n_prediction": n_prediction,
        "sensitivity_any": _ratio(met_reference, n_reference),
        "precision_any": _ratio(met_prediction, n_prediction),
        "tp": tp,
        "fp": n_prediction - tp,
        "fn": n_reference - tp,
        "sensitivity": _ratio(tp, n_reference),
        "precision": _ratio(tp, n_prediction),
        "f1": _ratio(2 * tp, n_reference + n_prediction),
        "mean_iou": _ratio(float(matched.sum()), tp),
    }


def _overlaps(one: NDArray[np.integer[Any]], two: NDArray[np.integer[Any]]) -> CountArray:
    """Voxels (R + 1, P + 1) shared by the components of two label maps; row and column 0: background."""
    rows, columns = (int(labels.max(initial=0)) + 1 for labels in (one, two))
    cells = one.ravel().astype(np.int64) * columns + two.ravel()
    return np.bincount(cells, minlength=rows * columns).reshape(rows, columns)


def _matched_ious(shared: CountArray, min_iou: float) -> FloatArray:
    sizes = shared.sum(axis=1)[1:, None] + shared.sum(axis=0)[None, 1:]
    ious = shared[1:, 1:] / (sizes - shared[1:, 1:])
    ious = np.where(ious >= min_iou, ious, 0.0)
    matched = ious[best_pairs(ious)]
    return matched[matched > 0]


def _ratio(numerator: float, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
