"""Connected components of two masks and the overlaps between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray
from medseg.metrics.typed_wrappers import best_pairs, components

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
InstanceArray = NDArray[np.integer[Any]]

_LARGEST_TABLE = 2**22


@dataclass(frozen=True)
class Overlaps:
    """Pairs of instances that share voxels. Instances of both maps are numbered from 1 without gaps.

    Attributes:
        reference_sizes: (R,) voxels of the instances of the reference.
        prediction_sizes: (P,) voxels of the instances of the prediction.
        rows: (N,) instances of the reference, from 0.
        columns: (N,) instances of the prediction, from 0.
        shared: (N,) voxels in both.
    """

    reference_sizes: IndexArray
    prediction_sizes: IndexArray
    rows: IndexArray
    columns: IndexArray
    shared: IndexArray

    @property
    def n_reference(self) -> int:
        """Number of instances of the reference."""
        return len(self.reference_sizes)

    @property
    def n_prediction(self) -> int:
        """Number of instances of the prediction."""
        return len(self.prediction_sizes)

    @cached_property
    def ious(self) -> FloatArray:
        """IoU of each pair (N,)."""
        both = self.reference_sizes[self.rows] + self.prediction_sizes[self.columns]
        return self.shared / (both - self.shared)

    @cached_property
    def touched_reference(self) -> BoolArray:
        """Instances of the reference that share voxels with the prediction (R,)."""
        touched = np.zeros(self.n_reference, bool)
        touched[self.rows] = True
        return touched

    @cached_property
    def touched_prediction(self) -> BoolArray:
        """Instances of the prediction that share voxels with the reference (P,)."""
        touched = np.zeros(self.n_prediction, bool)
        touched[self.columns] = True
        return touched

    def matched(self, min_iou: float) -> IndexArray:
        """Return the pairs with an IoU from ``min_iou`` that form the one-to-one matching of largest sum."""
        allowed = np.flatnonzero(self.ious >= min_iou)
        if 2 * min_iou > 1 or len(allowed) < 2:  # an instance has one pair at most
            return allowed
        row = np.unique(self.rows[allowed], return_inverse=True)[1]
        column = np.unique(self.columns[allowed], return_inverse=True)[1]
        gains = np.zeros((row.max() + 1, column.max() + 1))
        gains[row, column] = self.ious[allowed]
        chosen = np.zeros(gains.shape, bool)
        chosen[best_pairs(gains)] = True
        return allowed[chosen[row, column]]

    def best_dice(self) -> FloatArray:
        """Return the best Dice (R,) of each instance of the reference with one of the prediction; 0 without."""
        pairs = 2 * self.shared / (self.reference_sizes[self.rows] + self.prediction_sizes[self.columns])
        best = np.zeros(self.n_reference)
        np.maximum.at(best, self.rows, pairs)
        return best


def component_overlaps(reference: BoolArray, prediction: BoolArray) -> Overlaps:
    """Return the overlaps of the connected components of two masks (8 neighbors in 2D, 26 in 3D)."""
    return instance_overlaps(components(reference), components(prediction))


def instance_overlaps(reference: InstanceArray, prediction: InstanceArray) -> Overlaps:
    """Return the overlaps of two maps (*S) of instances numbered 1 … N without gaps; 0 is background."""
    sizes, other_sizes = (np.bincount(labels.ravel(), minlength=1) for labels in (reference, prediction))
    both = (reference > 0) & (prediction > 0)
    width = len(other_sizes)
    cells = reference[both].astype(np.intp) * width + prediction[both]
    if len(sizes) * width <= _LARGEST_TABLE:
        table = np.bincount(cells, minlength=len(sizes) * width)
        pairs = np.flatnonzero(table)
        shared = table[pairs]
    else:
        pairs, shared = np.unique(cells, return_counts=True)
    rows, columns = np.divmod(pairs, width)
    return Overlaps(sizes[1:], other_sizes[1:], rows - 1, columns - 1, shared.astype(np.intp))


def number_instances(instances: NDArray[Any]) -> InstanceArray:
    """Replace instance ids by 1 … N in the order of the ids; 0 remains 0."""
    ids, numbers = np.unique(instances, return_inverse=True)
    ranks = np.cumsum(ids != 0)
    ranks[ids == 0] = 0
    return ranks[numbers].reshape(instances.shape)
