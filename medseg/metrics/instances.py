"""Detection scores of instances: lesion detection and panoptic quality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import as_mask, check_shapes
from medseg.metrics.geometry.bounding_box import crop_pair
from medseg.metrics.typed_wrappers import best_pairs, components

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]


def lesion_metrics(
    reference: NDArray[Any], prediction: NDArray[Any], *, min_iou: float = 0.1
) -> dict[str, float]:
    """Compute detection scores over the connected components of two masks (8 neighbors in 2D, 26 in 3D).

    Args:
        reference: mask (*S), 2 or 3 axes.
        prediction: mask (*S).
        min_iou: smallest IoU of a matched pair.

    Returns:
        Keys: n_reference, n_prediction (numbers of components); sensitivity_any, precision_any (fraction that
        overlaps any component of the other mask); tp, fp, fn, sensitivity, precision, f1 of the one-to-one
        matching with the largest summed IoU; mean_iou of the matched pairs. 0 / 0 is nan.

    Raises:
        ValueError: if the shapes differ or do not have 2 or 3 axes, or min_iou is not in (0, 1].

    Example:
        >>> import numpy as np
        >>> scores = lesion_metrics(np.array([[1, 1, 0, 1]]), np.array([[1, 1, 0, 0]]))
        >>> scores["tp"], scores["fn"], scores["sensitivity"]
        (1, 1, 0.5)
    """
    check_shapes(reference, prediction)
    if reference.ndim not in (2, 3):
        raise ValueError(f"got an array of {reference.ndim} axes, expected 2 or 3")
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou is {min_iou}, expected above 0 and at most 1")
    one, two = (components(mask) for mask in crop_pair(as_mask(reference), as_mask(prediction)))
    overlaps = _overlaps(one, two)
    matched = overlaps.matched(overlaps.ious >= min_iou)
    n_reference, n_prediction, tp = overlaps.n_reference, overlaps.n_prediction, len(matched)
    return {
        "n_reference": n_reference,
        "n_prediction": n_prediction,
        "sensitivity_any": _ratio(len(np.unique(overlaps.rows)), n_reference),
        "precision_any": _ratio(len(np.unique(overlaps.columns)), n_prediction),
        "tp": tp,
        "fp": n_prediction - tp,
        "fn": n_reference - tp,
        "sensitivity": _ratio(tp, n_reference),
        "precision": _ratio(tp, n_prediction),
        "f1": _ratio(2 * tp, n_reference + n_prediction),
        "mean_iou": _ratio(float(matched.sum()), tp),
    }


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
    overlaps = _overlaps(_numbered(reference), _numbered(prediction))
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


@dataclass(frozen=True, slots=True)
class _Overlaps:
    """Pairs (N,) of instances that share voxels, and their IoU; instances are numbered from 1."""

    n_reference: int
    n_prediction: int
    rows: IndexArray
    columns: IndexArray
    ious: FloatArray

    def matched(self, allowed: NDArray[np.bool_]) -> FloatArray:
        """Return the IoUs of the one-to-one matching of the ``allowed`` pairs (N,) with the largest sum."""
        rows, columns, ious = self.rows[allowed], self.columns[allowed], self.ious[allowed]
        row_ids, row = np.unique(rows, return_inverse=True)
        column_ids, column = np.unique(columns, return_inverse=True)
        gains = np.zeros((len(row_ids), len(column_ids)))
        gains[row, column] = ious
        chosen = gains[best_pairs(gains)]
        return chosen[chosen > 0]


def _overlaps(one: NDArray[np.integer[Any]], two: NDArray[np.integer[Any]]) -> _Overlaps:
    """Return the overlaps of two maps of instances numbered 1 … N without gaps."""
    sizes, other_sizes = (np.bincount(labels.ravel(), minlength=1) for labels in (one, two))
    both = (one > 0) & (two > 0)
    cells = one[both].astype(np.int64) * len(other_sizes) + two[both]
    pairs, shared = np.unique(cells, return_counts=True)
    rows, columns = np.divmod(pairs, len(other_sizes))
    ious = shared / (sizes[rows] + other_sizes[columns] - shared)
    return _Overlaps(len(sizes) - 1, len(other_sizes) - 1, rows, columns, ious)


def _numbered(instances: NDArray[Any]) -> NDArray[np.integer[Any]]:
    """Replace instance ids by 1 … N in the order of the ids; 0 remains 0."""
    ids, numbers = np.unique(instances, return_inverse=True)
    ranks = np.cumsum(ids != 0)
    ranks[ids == 0] = 0
    return ranks[numbers].reshape(instances.shape)


def _ratio(numerator: float, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
