"""The planes of a case that are drawn: through the largest error, cropped, at their physical aspect ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.report.media.case_view import CaseView
from medseg.report.media.error_map import error_map, labeled_box, largest_error
from medseg.report.media.windows import Window, display_window
from medseg.report.pictures import best_slice, plane
from medseg.report.scaling import stretch

Array = NDArray[Any]

PLANES = {2: ("axial", "RLAP"), 1: ("coronal", "RLSI"), 0: ("sagittal", "APSI")}
"""Axis of a RAS+ volume → name of the plane and its letters at the left, right, top and bottom edge."""

_MOST_MARGIN_MM = 15.0
_WHOLE_SHARE = 0.6
"""An axis is not cropped if the crop would cover more than this share of it."""


@dataclass(frozen=True)
class Plane:
    """One plane of a case, oriented for display.

    Attributes:
        title: such as ``axial, z = 12``; empty for pictures.
        letters: directions at the left, right, top and bottom edge; empty for pictures.
        image: (H, W) or (H, W, 3) uint8.
        reference: class indices (H, W); None if there is no reference.
        prediction: as ``reference``.
        errors: kinds of error (H, W) uint8; None without a reference or a prediction.
        pixel_mm: height and width of a pixel.
        corner: row and column of the first pixel in the whole plane.
    """

    title: str
    letters: str
    image: Array
    reference: Array | None
    prediction: Array | None
    errors: Array | None
    pixel_mm: tuple[float, float]
    corner: tuple[int, int] = (0, 0)

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width."""
        return self.image.shape[0] * self.pixel_mm[0], self.image.shape[1] * self.pixel_mm[1]


def display_planes(view: CaseView, *, window: Window = "auto", crop: bool = True) -> list[Plane]:
    """Return the planes of a case: the picture itself, or three planes of a volume.

    The planes of a volume pass through its largest error or, without one, show the most labels.

    Args:
        view: the case.
        window: gray values that are drawn black and white.
        crop: leave out what is far from labels.
    """
    low_high = display_window(view, window)
    errors = error_map(view)
    box = labeled_box(view, margin_mm(view)) if crop else tuple(slice(0, n) for n in view.shape)
    if view.spatial_dims == 2:
        return [cut_plane(view, errors, low_high, box)]
    focus = focus_voxel(view, errors)
    return [cut_plane(view, errors, low_high, box, (axis, focus[axis])) for axis in PLANES]


def cut_plane(
    view: CaseView,
    errors: Array | None,
    window: tuple[float, float],
    box: tuple[slice, ...],
    place: tuple[int, int] = (2, 0),
) -> Plane:
    """Cut a plane out of a case.

    Args:
        view: the case.
        errors: kinds of error (*S); None for none.
        window: gray values that are drawn black and white.
        box: region of interest; axes that it covers almost entirely are not cropped.
        place: axis and index of the plane of a volume.
    """
    if view.spatial_dims == 2:
        return _picture(view, errors, window, _worthwhile(box, view.shape))
    return _volume_plane(view, errors, window, place, box)


def focus_voxel(view: CaseView, errors: Array | None) -> tuple[int, ...]:
    """Return the voxel to look at: the center of the largest error, else the slices with the most labels."""
    center = None if errors is None else largest_error(errors, view.spacing)
    if center is not None:
        return center
    guide = view.reference if view.reference is not None else view.prediction
    if view.spatial_dims == 2:
        return tuple(n // 2 for n in view.shape)
    return tuple(best_slice(guide, view.shape, axis) for axis in range(3))


def margin_mm(view: CaseView) -> float:
    """Return a quarter of the extent of the labels along their longest axis; in volumes at most 15 mm."""
    labeled = labeled_box(view, 0.0)
    extent = max((s.stop - s.start) * step for s, step in zip(labeled, view.spacing, strict=True))
    return 0.25 * extent if view.spatial_dims == 2 else min(0.25 * extent, _MOST_MARGIN_MM)


def _worthwhile(box: Sequence[slice], shape: Sequence[int]) -> tuple[slice, ...]:
    """Return the box, extended to the whole plane along axes of which it covers most."""
    pairs = zip(box, shape, strict=True)
    return tuple(slice(0, n) if (s.stop - s.start) > _WHOLE_SHARE * n else s for s, n in pairs)


def _picture(
    view: CaseView, errors: Array | None, window: tuple[float, float], box: tuple[slice, ...]
) -> Plane:
    def cut(array: Array | None) -> Array | None:
        return None if array is None else array[box]

    height, width = view.spacing
    corner = box[0].start, box[1].start
    image = _gray(cut(view.image), tuple(s.stop - s.start for s in box), window)
    return Plane("", "", image, cut(view.reference), cut(view.prediction), cut(errors), (height, width), corner)


def _volume_plane(
    view: CaseView,
    errors: Array | None,
    window: tuple[float, float],
    place: tuple[int, int],
    box: tuple[slice, ...],
) -> Plane:
    axis, index = place
    across, down = (other for other in range(3) if other != axis)
    across_box, down_box = _worthwhile((box[across], box[down]), (view.shape[across], view.shape[down]))
    rows = slice(view.shape[down] - down_box.stop, view.shape[down] - down_box.start)  # planes are flipped
    columns = slice(view.shape[across] - across_box.stop, view.shape[across] - across_box.start)

    def cut(array: Array | None) -> Array | None:
        return None if array is None else plane(array, axis, index)[rows, columns]

    title, letters = PLANES[axis]
    flat = cut(view.image)
    image = _gray(flat, (rows.stop - rows.start, columns.stop - columns.start), window)
    return Plane(
        f"{title}, {'xyz'[axis]} = {index}", letters, image, cut(view.reference), cut(view.prediction),
        cut(errors), (view.spacing[down], view.spacing[across]), (rows.start, columns.start),
    )  # fmt: skip


def _gray(image: Array | None, shape: tuple[int, ...], window: tuple[float, float]) -> Array:
    """Return gray or color values in uint8; black without an image."""
    if image is None:
        return np.zeros(shape, np.uint8)
    return image if image.dtype == np.uint8 and window == (0.0, 255.0) else stretch(image, window)
