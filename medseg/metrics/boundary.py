"""Boundary IoU: overlap of the rims of two masks, which large structures cannot hide behind their bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray, as_mask, check_shapes, check_spacing, check_tolerance
from medseg.metrics.geometry.bounding_box import crop_pair
from medseg.metrics.overlap import count_overlap, iou
from medseg.metrics.typed_wrappers import distance_to

_SLACK_MM = 1e-6


def boundary_iou(
    reference: NDArray[Any], prediction: NDArray[Any], spacing: Sequence[float], distance_mm: float
) -> float:
    """IoU of the two masks' rims: their voxels within ``distance_mm`` of the background.

    Shapes: (*S), 2 or 3 axes; ``spacing`` in mm per array axis. Distances run from center to center of
    the voxels; outside the array is background. nan if both masks are empty, 0 if one is.
    Source: Cheng et al. 2021, arXiv:2103.16562.
    Raises: ValueError if the shapes differ, or if ``spacing`` or ``distance_mm`` is not usable.
    """
    check_shapes(reference, prediction)
    voxel_mm = check_spacing(spacing, reference.ndim)
    width = check_tolerance(distance_mm)
    rims = (_rim(mask, voxel_mm, width) for mask in crop_pair(as_mask(reference), as_mask(prediction)))
    return iou(count_overlap(*rims))


def _rim(mask: BoolArray, spacing: tuple[float, ...], width: float) -> BoolArray:
    padded = np.pad(mask, 1)
    return padded & (distance_to(~padded, spacing) <= width + _SLACK_MM)
