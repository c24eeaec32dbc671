"""Scores of a whole dataset from its confusion matrix, as common in semantic segmentation of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray, check_shapes
from medseg.metrics.overlap import Counts, mean_defined

IntArray = NDArray[np.int64]

_BLOCK = 2**22


def confusion_matrix(
    reference_index: NDArray[Any],
    prediction_index: NDArray[Any],
    num_classes: int,
    ignore_index: int | None = None,
) -> IntArray:
    """Count pixels by class in the reference (row) and in the prediction (column).

    Args:
        reference_index: integer class indices (*S) from 0 to K - 1.
        prediction_index: integer class indices (*S) from 0 to K - 1.
        num_classes: K.
        ignore_index: reference value of pixels to leave out.

    Returns:
        Matrix (K, K). The matrix of several cases is the sum of their matrices.

    Raises:
        ValueError: if the shapes differ, an array is not of integers or an index is out of range.

    Example:
        >>> import numpy as np
        >>> confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), num_classes=2).tolist()
        [[1, 1], [0, 2]]
    """
    check_shapes(reference_index, prediction_index)
    reference, prediction = reference_index.ravel(), prediction_index.ravel()
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for start in range(0, reference.size, _BLOCK):  # the products below take eight bytes per pixel
        rows, columns = reference[start : start + _BLOCK], prediction[start : start + _BLOCK]
        if ignore_index is not None:
            counted = rows != ignore_index
            rows, columns = rows[counted], columns[counted]
        _check_classes("reference", rows, num_classes)
        _check_classes("prediction", columns, num_classes)
        cells = rows.astype(np.int64) * num_classes + columns.astype(np.int64)
        matrix += np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
    return matrix


def dataset_scores(
    matrix: IntArray, names: Sequence[str], *, unpredicted: IntArray | None = None
) -> dict[str, Any]:
    """Compute pixel accuracy and IoU over a whole dataset (Long et al. 2015, arXiv:1411.4038, section 5).

    Args:
        matrix: confusion matrix (K, K).
        names: names of the K classes, the background first.
        unpredicted: (K,) pixels by class in the reference that have no predicted class, as in cases without a
            prediction. They are false negatives of their class and false positives of none.

    Returns:
        Keys: pixel_accuracy, miou_with_background, miou_without_background, frequency_weighted_iou (weighted by
        the pixels of each class in the reference), iou (name → value), classes_present, pixels. The IoU of a
        class that occurs neither in the reference nor in the prediction is nan, and means leave it out.

    Raises:
        ValueError: if the matrix is not square or ``names`` does not fit it.

    Example:
        >>> import numpy as np
        >>> scores = dataset_scores(np.array([[2, 0], [1, 1]]), ["background", "organ"])
        >>> scores["pixel_accuracy"], scores["iou"]["organ"]
        (0.75, 0.5)
    """
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"matrix has shape {matrix.shape}, expected {(len(names),) * 2} for names {names}")
    hits = matrix.diagonal().tolist()
    unseen = np.zeros(len(names), np.int64) if unpredicted is None else unpredicted
    unions = (matrix.sum(axis=0) + matrix.sum(axis=1) - matrix.diagonal() + unseen).tolist()
    ious = [hit / union if union else math.nan for hit, union in zip(hits, unions, strict=True)]
    pixels = int(matrix.sum() + unseen.sum())
    frequencies = (matrix.sum(axis=1) + unseen).tolist()
    weighted = sum(size * value for size, value in zip(frequencies, ious, strict=True) if size)
    return {
        "pixel_accuracy": sum(hits) / pixels if pixels else math.nan,
        "miou_with_background": mean_defined(ious),
        "miou_without_background": mean_defined(ious[1:]),
        "frequency_weighted_iou": weighted / pixels if pixels else math.nan,
        "iou": dict(zip(names, ious, strict=True)),
        "classes_present": sum(union > 0 for union in unions),
        "pixels": pixels,
    }


def class_counts(matrix: IntArray) -> list[Counts]:
    """Return the voxel counts of each class of a confusion matrix (K, K)."""
    tp = matrix.diagonal()
    fp, fn = matrix.sum(axis=0) - tp, matrix.sum(axis=1) - tp
    rows = np.stack([tp, fp, fn, matrix.sum() - tp - fp - fn], axis=1)
    return [Counts(*row) for row in rows.tolist()]


def region_counts(
    reference_index: NDArray[Any], prediction: BoolArray, members: BoolArray, ignore_index: int | None = None
) -> list[Counts]:
    """Count the overlap of predicted regions with a reference of classes.

    Args:
        reference_index: integer class indices (*S) from 0 to K - 1.
        prediction: one mask per region (R, *S).
        members: (R, K), the classes of each region.
        ignore_index: reference value of voxels to leave out.

    Raises:
        ValueError: if the shapes do not match.
    """
    reference = reference_index.ravel()
    masks = prediction.reshape(len(prediction), -1)
    if reference.shape != masks.shape[1:] or len(masks) != len(members):
        raise ValueError(
            f"prediction has shape {prediction.shape}, expected {(len(members), *reference_index.shape)}"
        )
    if ignore_index is not None:
        counted = reference != ignore_index
        if not counted.all():
            reference, masks = reference[counted], masks[:, counted]
    num_classes = members.shape[1]
    sizes = members @ np.bincount(reference, minlength=num_classes)
    counts: list[Counts] = []
    for mask, held, size in zip(masks, members, sizes.tolist(), strict=True):
        inside = np.bincount(reference[mask], minlength=num_classes)
        tp, predicted = int(inside[held].sum()), int(inside.sum())
        counts.append(Counts(tp, predicted - tp, size - tp, reference.size - predicted - size + tp))
    return counts


def _check_classes(role: str, indices: NDArray[Any], num_classes: int) -> None:
    if not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"the {role} has dtype {indices.dtype}, expected integer class indices")
    if indices.size and not (int(indices.min()) >= 0 and int(indices.max()) < num_classes):
        raise ValueError(
            f"the {role} contains class indices from {indices.min()} to {indices.max()}, "
            f"expected 0 to {num_classes - 1}"
        )
