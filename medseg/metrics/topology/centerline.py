"""Centerline Dice: agreement of two tubular masks along their skeletons."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray, as_mask, check_shapes
from medseg.metrics.geometry.bounding_box import crop_pair
from medseg.metrics.typed_wrappers import skeleton


def cldice(reference: NDArray[Any], prediction: NDArray[Any]) -> float:
    """Compute the centerline Dice (Shit et al. 2021, arXiv:2003.07311).

    It is the harmonic mean of the fractions of each skeleton that lie in the other mask. Skeletons are computed
    by scikit-image's ``skeletonize`` from the mask padded by 1.

    Args:
        reference: mask (*S), 2 or 3 axes.
        prediction: mask (*S).

    Returns:
        The score; nan if both masks are empty, 0 if one is or if neither skeleton meets the other mask. The
        skeleton of a nonempty mask can be empty: the score is then nan, with a RuntimeWarning.

    Raises:
        ValueError: if the shapes differ or do not have 2 or 3 axes.

    Example:
        >>> import numpy as np
        >>> line = np.zeros((5, 9)); line[2, 1:8] = 1
        >>> cldice(line, line)
        1.0
    """
    check_shapes(reference, prediction)
    if reference.ndim not in (2, 3):
        raise ValueError(f"got an array of {reference.ndim} axes, expected 2 or 3")
    return centerline_dice(*crop_pair(as_mask(reference), as_mask(prediction)))


def centerline_dice(reference: BoolArray, prediction: BoolArray) -> float:
    """Compute ``cldice`` of two masks that are cropped to their foreground."""
    one, two = np.pad(reference, 1), np.pad(prediction, 1)
    if not (one.any() and two.any()):
        return 0.0 if one.any() or two.any() else math.nan
    line_one, line_two = skeleton(one), skeleton(two)
    if not (line_one.any() and line_two.any()):
        which = "prediction's" if line_one.any() else "reference's"
        warnings.warn(f"the {which} skeleton is empty, so clDice is nan", RuntimeWarning, stacklevel=2)
        return math.nan
    sensitivity, precision = float(two[line_one].mean()), float(one[line_two].mean())
    total = sensitivity + precision
    return 2 * sensitivity * precision / total if total else 0.0
