"""Where a prediction differs from its reference, and where the largest difference is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.report.media.case_view import CaseView

Array = NDArray[Any]

MISSED, EXTRA, CONFUSED = 1, 2, 3
"""Kinds of error: in the reference alone, in the prediction alone, another label in each."""

ERROR_NAMES = {MISSED: "missed", EXTRA: "extra", CONFUSED: "other label"}
ERROR_COLORS = {MISSED: (195, 0, 195), EXTRA: (150, 225, 150), CONFUSED: (120, 70, 0)}
"""Magenta, light green and brown: distinct for every kind of color vision, and no color of ``label_palette``.

``slices.js`` has the same ones.
"""

_MOST_VOXELS = 4_000_000
_DEEP = 0.95
"""Share of the largest depth from which a voxel counts as center."""


def error_map(view: CaseView) -> Array | None:
    """Return the kind of error of every voxel, (*S) uint8, 0 where there is none; None if a map is missing.

    Voxels that are not annotated in the reference have no error.

    Example:
        >>> reference, prediction = np.array([[0, 1, 1, 2]]), np.array([[1, 1, 0, 1]])
        >>> error_map(CaseView("a", (1, 1), reference=reference, prediction=prediction))
        array([[2, 0, 1, 3]], dtype=uint8)
    """
    if view.reference is None or view.prediction is None:
        return None
    reference, prediction = view.reference, view.prediction
    errors = np.zeros(view.shape, np.uint8)
    wrong = (reference != prediction) & (reference >= 0)
    if not view.legend.background:
        errors[wrong] = CONFUSED
        return errors
    errors[wrong & (prediction <= 0)] = MISSED
    errors[wrong & (reference == 0)] = EXTRA
    errors[wrong & (reference > 0) & (prediction > 0)] = CONFUSED
    return errors


def largest_error(errors: Array, spacing: Sequence[float]) -> tuple[int, ...] | None:
    """Return the voxel at the center of the largest error; None without errors.

    The largest error is the connected component with the most voxels of one kind; its center is the voxel
    farthest from its surface, in mm; of several the one in their middle.

    Args:
        errors: (*S), result of :func:`error_map`.
        spacing: mm along each axis.
    """
    if not errors.any():
        return None
    connectivity = 6 if errors.ndim == 3 else 4
    components: Any = cc3d.connected_components(np.ascontiguousarray(errors), connectivity=connectivity)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    box = _bounding_box(components == largest)
    inside = components[box] == largest
    step = max(1, int(np.ceil((inside.size / _MOST_VOXELS) ** (1 / inside.ndim))))
    coarse = inside[(slice(None, None, step),) * inside.ndim]
    if not coarse.any():
        coarse, step = inside, 1
    depth: Any = ndimage.distance_transform_edt(np.pad(coarse, 1), sampling=tuple(s * step for s in spacing))
    deepest = np.argwhere(depth >= _DEEP * depth.max())
    center = deepest[np.argmin(((deepest - deepest.mean(axis=0)) ** 2).sum(axis=1))]
    return tuple((int(c) - 1) * step + side.start for c, side in zip(center, box, strict=True))


def labeled_box(view: CaseView, margin_mm: float) -> tuple[slice, ...]:
    """Return the box around all labels of a case, with a margin; the whole grid if there are no labels.

    Args:
        view: the case.
        margin_mm: margin at every side, at least four voxels.
    """
    labeled = view.labeled
    if not labeled.any():
        return tuple(slice(0, n) for n in view.shape)
    box = _bounding_box(labeled)
    margins = [max(4, round(margin_mm / step)) for step in view.spacing]
    return tuple(
        slice(max(0, side.start - margin), min(n, side.stop + margin))
        for side, margin, n in zip(box, margins, view.shape, strict=True)
    )


def _bounding_box(mask: Array) -> tuple[slice, ...]:
    sides = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return tuple(sides)
