"""Gray-value windows of display: percentiles of the image, or the usual windows of CT."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.report.media.case_view import CaseView
from medseg.report.scaling import intensity_window

Array = NDArray[Any]
Window = Literal["auto", "percentiles", "soft tissue", "lung", "bone"]

CT_WINDOWS: dict[Window, tuple[float, float]] = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
}
"""Hounsfield units shown black and white: level 40, -600 and 400, width 400, 1500 and 1800."""

_MOST_SAMPLES = 1_000_000


def display_window(view: CaseView, window: Window = "auto") -> tuple[float, float]:
    """Return the values that are drawn black and white.

    ``auto`` selects a CT window for Hounsfield units: ``lung`` if the labeled voxels have a median below -400,
    ``bone`` above 150, else ``soft tissue``. Other images use percentiles 1 and 99.5 of the values that differ
    from the darkest one, so that an empty background does not count.

    Args:
        view: the case; pictures of type uint8 are drawn unchanged, 0 to 255.
        window: name of a window, ``percentiles`` or ``auto``.
    """
    image = view.image
    if image is None or (image.dtype == np.uint8 and view.spatial_dims == 2):
        return 0.0, 255.0
    if window in CT_WINDOWS:
        return CT_WINDOWS[window]
    if window == "auto" and is_hounsfield(image, view.modality):
        return CT_WINDOWS[_ct_window(view, image)]
    samples = _subsample(image)
    brighter = samples[samples > samples.min()] if samples.size else samples
    low, high = intensity_window(brighter, 1, 99.5)
    return (low, high) if low < high else intensity_window(samples, 0, 100)


def is_hounsfield(image: Array, modality: str | None = None) -> bool:
    """Whether an image has Hounsfield units: declared CT, or with air below -900 and nothing above 4100."""
    if modality is not None:
        return modality == "CT"
    samples = _subsample(image)
    if samples.size == 0:
        return False
    low, high = np.percentile(samples, (1, 99.9))
    return bool(-4100 <= low <= -900 and high <= 4100)


def _ct_window(view: CaseView, image: Array) -> Window:
    values = image[view.labeled]
    if values.size == 0:
        return "soft tissue"
    median = float(np.median(values))
    return "lung" if median < -400 else "bone" if median > 150 else "soft tissue"


def _subsample(image: Array) -> Array:
    """Return at most about a million finite values, evenly spaced."""
    flat = np.ravel(image)
    samples = flat[:: max(1, flat.size // _MOST_SAMPLES)]
    return samples[np.isfinite(samples)]
