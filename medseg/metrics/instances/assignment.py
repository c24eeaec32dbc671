"""One-to-one assignment of reference and predicted objects."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from medseg.metrics.instances.overlaps import Indices, Numbers, Overlaps

_OPTIMIZE: Any = import_module("scipy.optimize")
_SPARSE: Any = import_module("scipy.sparse")
_GRAPHS: Any = import_module("scipy.sparse.csgraph")


def match_objects(overlaps: Overlaps, threshold: float) -> Indices:
    """Return the pairs that are matched at a threshold: the most pairs, and of these the largest sum of IoU.

    Args:
        overlaps: of one image.
        threshold: least IoU of a pair.

    Returns:
        Indices of the pairs.
    """
    ious = overlaps.ious
    candidates = np.flatnonzero(ious >= threshold)
    count = min(len(overlaps.reference_sizes), len(overlaps.predicted_sizes))
    return candidates[best_pairs(overlaps, candidates, 1 + ious[candidates] / (2 * max(1, count)))]


def best_pairs(overlaps: Overlaps, candidates: Indices, values: Numbers) -> Indices:
    """Choose pairs without common objects so that the sum of their values is largest.

    Args:
        overlaps: of one image.
        candidates: (M,) indices of the pairs that may be chosen.
        values: (M,) positive value of each.

    Returns:
        Positions in ``candidates``, in increasing order.
    """
    rows, columns = overlaps.reference[candidates], overlaps.predicted[candidates]
    groups = _groups(rows, columns, len(overlaps.reference_sizes), len(overlaps.predicted_sizes))
    sizes = np.bincount(groups, minlength=1)
    alone = sizes[groups] == 1
    chosen = [np.flatnonzero(alone)]
    order = np.argsort(groups, kind="stable")
    order = order[~alone[order]]
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(members):
            chosen.append(members[_solve(rows[members], columns[members], values[members])])
    return np.sort(np.concatenate(chosen))


def _groups(rows: Indices, columns: Indices, references: int, predictions: int) -> Indices:
    """Return the connected component of each pair: pairs of different ones have no common objects."""
    total = references + predictions
    graph = _SPARSE.coo_array((np.ones(len(rows), bool), (rows, references + columns)), shape=(total, total))
    _, component = _GRAPHS.connected_components(graph, directed=False)
    return np.asarray(component, np.int64)[rows]


def _solve(rows: Indices, columns: Indices, values: Numbers) -> Indices:
    """Solve the assignment of one group of pairs; return the positions of those that are chosen."""
    first, row = np.unique(rows, return_inverse=True)
    second, column = np.unique(columns, return_inverse=True)
    table = np.zeros((len(first), len(second)))
    table[row, column] = values
    position = np.full(table.shape, -1)
    position[row, column] = np.arange(len(rows))
    chosen = position[_OPTIMIZE.linear_sum_assignment(table, maximize=True)]
    return chosen[chosen >= 0]
