"""Scores of a whole data set from its confusion matrix, as semantic segmentation of pictures reports them."""

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
    """Pixels (K, K) by their class in the reference (row) and in the prediction (column).

    Shapes: both (*S) integer class indices from 0 to K - 1. Pixels whose reference is ``ignore_index``
    count nowhere. Matrices of several cases add up.
    Raises: ValueError if the shapes differ, an array is not of integers or an index is out of range.
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
    """Pixel accuracy, IoU per class and mean IoU of a confusion matrix (K, K) over a whole data set.

    ``names`` (K) starts with the background. The IoU of a class that neither reference nor prediction
    has is nan, and no mean includes it. Source: Long et al. 2015, arXiv:1411.4038, section 5.
    ``unpredicted`` (K) counts pixels of each class in the reference that were predicted as no class at all
    (cases without a prediction): they are wrong for their class, and nobody's false positives.
    Keys: pixel_accuracy, miou_with_background, miou_without_background, iou (name → value),
    classes_present, pixels.
    Raises: ValueError if the matrix is not square or ``names`` does not fit it.
    """
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"matrix has shape {matrix.shape}, expected {(len(names),) * 2} for names {names}")
    hits = matrix.diagonal().tolist()
    unseen = np.zeros(len(names), np.int64) if unpredicted is None else unpredicted
    unions = (matrix.sum(axis=0) + matrix.sum(axis=1) - matrix.diagonal() + unseen).tolist()
    ious = [hit / union if union else math.nan for hit, union in zip(hits, unions, strict=True)]
    pixels = int(matrix.sum() + unseen.sum())
    return {
        "pixel_accuracy": sum(hits) / pixels if pixels else math.nan,
        "miou_with_background": mean_defined(ious),
        "miou_without_background": mean_defined(ious[1:]),
        "iou": dict(zip(names, ious, strict=True)),
        "classes_present": sum(union > 0 for union in unions),
        "pixels": pixels,
    }


def class_counts(matrix: IntArray) -> list[Counts]:
    """The voxel counts of each class of a confusion matrix (K, K), as ``count_overlap`` of its two masks."""
    tp = matrix.diagonal()
    fp, fn = matrix.sum(axis=0) - tp, matrix.sum(axis=1) - tp
    rows = np.stack([tp, fp, fn, matrix.sum() - tp - fp - fn], axis=1)
    return [Counts(*row) for row in rows.tolist()]


def region_counts(
    reference_index: NDArray[Any], prediction: BoolArray, members: BoolArray, ignore_index: int | None = None
) -> list[Counts]:
    """The voxel counts of each region, of which a reference of classes and a prediction of masks are compared.

    Shapes: reference_index (*S) integer class indices from 0 to K - 1, prediction (R, *S) bool, members
    (R, K) bool: the classes of each region. Voxels whose reference is ``ignore_index`` count nowhere.
    Raises: ValueError if the shapes differ.
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
            f"the {role} holds class indices from {indices.min()} to {indices.max()}, "
            f"expected 0 to {num_classes - 1}"
        )
