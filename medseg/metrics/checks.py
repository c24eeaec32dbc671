"""Checks of the arguments of metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]


def as_mask(array: NDArray[Any]) -> BoolArray:
    """Convert an array to booleans: nonzero is foreground. A boolean array is returned as is."""
    array = np.asarray(array)
    return array if array.dtype == np.bool_ else array != 0


def check_shapes(reference: NDArray[Any], prediction: NDArray[Any]) -> None:
    """Raise ValueError if the shapes differ; arrays are never broadcast."""
    if reference.shape != prediction.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape}, expected the reference's {reference.shape}: "
            "resample the prediction to the reference's grid first"
        )


def check_spacing(spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    """Return the spacing as floats; raise ValueError if it does not fit ``ndim`` (2 or 3) axes."""
    if ndim not in (2, 3):
        raise ValueError(f"got an array of {ndim} axes, expected 2 or 3")
    values = tuple(float(value) for value in spacing)
    if len(values) != ndim:
        raise ValueError(f"spacing has {len(values)} values {values}, expected {ndim}, one per array axis")
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"spacing is {values} mm, expected finite values above 0")
    return values


def check_tolerance(tolerance_mm: float) -> float:
    """Return the tolerance as a float; raise ValueError if it is negative or not finite."""
    value = float(tolerance_mm)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"tolerance_mm is {value}, expected a finite value of 0 or more")
    return value
