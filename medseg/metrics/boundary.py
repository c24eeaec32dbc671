"""Boundary IoU: overlap of the rims of two masks, sensitive to boundary errors of large structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from medseg.metrics.checks import as_mask, check_shapes, check_spacing, check_tolerance
from medseg.metrics.geometry.bounding_box import crop_pair
from medseg.metrics.geometry.rim import rim
from medseg.metrics.overlap import count_overlap, iou


def boundary_iou(
    reference: NDArray[Any], prediction: NDArray[Any], spacing: Sequence[float], distance_mm: float
) -> float:
    """Compute the IoU of the rims of two masks (Cheng et al. 2021, arXiv:2103.16562).

    The rim of a mask are its voxels within ``distance_mm`` of the background, measured between voxel centers.
    Outside the array is background.

    Args:
        reference: mask (*S), 2 or 3 axes.
        prediction: mask (*S).
        spacing: mm per array axis.
        distance_mm: width of the rim.

    Returns:
        The IoU; nan if both masks are empty, 0 if one is.

    Raises:
        ValueError: if the shapes differ, or the spacing or distance is invalid.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((6, 6)); mask[1:5, 1:5] = 1
        >>> hole = mask.copy(); hole[2:4, 2:4] = 0
        >>> boundary_iou(mask, hole, (1.0, 1.0), 1.0)  # the rim is 1 voxel wide, the hole is inside
        1.0
    """
    check_shapes(reference, prediction)
    voxel_mm = check_spacing(spacing, reference.ndim)
    width = check_tolerance(distance_mm)
    rims = (rim(mask, voxel_mm, width) for mask in crop_pair(as_mask(reference), as_mask(prediction)))
    return iou(count_overlap(*rims))
