"""Figures of one case as several methods segmented it: image, reference and each method, in one plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.report.media.case_view import CaseView
from medseg.report.media.drawing import draw_contours, draw_image
from medseg.report.media.error_map import error_map, labeled_box, largest_error
from medseg.report.media.figures.case import (
    CaseFigures,
    Figure,
    FigureOptions,
    describe_areas,
    display_size,
    plane_legend,
    png_data_uri,
)
from medseg.report.media.planes import Plane, cut_plane, focus_voxel, margin_mm
from medseg.report.media.windows import display_window

Array = NDArray[Any]

_SMALLEST = 96
_PICTURE = 1.5
_NATIVE = 1.5
"""An axis whose spacing is larger by this factor than the others' is that of the acquired slices."""

DEFAULTS = FigureOptions()


def method_figures(
    views: Mapping[str, CaseView], focus: str | None = None, options: FigureOptions = DEFAULTS
) -> CaseFigures:
    """Draw a case as several methods segmented it, side by side: image, reference, and one picture a method.

    Every picture shows the reference as a white line; labels of a method are lines in their colors. Volumes are
    shown in one plane: through the largest region in which the methods differ, or through the largest error of
    one method. It is the acquired plane of volumes with thick slices, otherwise the one that shows most of the
    region.

    Args:
        views: method → the case with its prediction; image, reference and grid are the same in all.
        focus: method whose largest error is shown; None for the largest difference between the methods.
        options: sizes, gray values.

    Raises:
        ValueError: if there is no method.

    Example:
        >>> square, nothing = np.ones((8, 8), int), np.zeros((8, 8), int)
        >>> views = {name: CaseView("a", (1.0, 1.0), reference=square, prediction=prediction)
        ...          for name, prediction in (("new", square), ("old", nothing))}
        >>> method_figures(views).columns
        ('reference', 'new', 'old')
    """
    if not views:
        raise ValueError("no method to draw")
    region, words = _region(views, focus)
    planes = _planes(views, region, options)
    first = next(iter(planes.values()))
    size = options.size if first.title else round(options.size * _PICTURE)
    while True:
        figures = tuple(_figures(views, planes, size))
        excess = sum(len(figure.source) for figure in figures) / options.max_bytes
        if excess <= 1 or size <= _SMALLEST:
            break
        size = max(_SMALLEST, min(int(size * 0.9), int(size * (0.95 / excess) ** 0.5)))
    view = next(iter(views.values()))
    return CaseFigures(view.name, figures, _caption(first, words), plane_legend(view, list(planes.values())))


def _region(views: Mapping[str, CaseView], focus: str | None) -> tuple[Array | None, str]:
    """Return a map (*S) of what is shown, 0 elsewhere, and its name; None if there is nothing to see."""
    errors = {name: error_map(view) for name, view in views.items()}
    if focus is not None and focus in views:
        own = errors[focus]
        return (own, f"the largest error of {focus}") if own is not None and own.any() else (None, "")
    predictions = [view.prediction for view in views.values() if view.prediction is not None]
    differs = np.zeros(np.shape(predictions[0]), np.uint8) if predictions else None
    for other in predictions[1:]:
        assert differs is not None
        differs |= (other != predictions[0]).astype(np.uint8)
    reference = next(iter(views.values())).reference
    if differs is not None and reference is not None:
        differs[reference < 0] = 0  # not annotated
    if differs is not None and differs.any():
        return differs, "the largest difference between the methods"
    own = next((one for one in errors.values() if one is not None and one.any()), None)
    return (own, "the largest error, which the methods share") if own is not None else (None, "")


def _planes(views: Mapping[str, CaseView], region: Array | None, options: FigureOptions) -> dict[str, Plane]:
    """Cut the same plane out of the view of each method, cropped to the labels of all."""
    every = list(views.values())
    view = every[0]
    margin = max(margin_mm(one) for one in every)
    box = _union([labeled_box(one, margin) for one in every if one.labeled.any()]) if options.crop else ()
    box = box or tuple(slice(0, n) for n in view.shape)
    window = display_window(view, options.window)
    voxel = None if region is None else largest_error(region, view.spacing)
    place = (2, 0)
    if view.spatial_dims == 3:
        voxel = voxel or focus_voxel(view, None)
        axis = _axis(view.spacing, voxel, region)
        place = (axis, voxel[axis])
    return {name: cut_plane(one, None, window, box, place) for name, one in views.items()}


def _union(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )


def _axis(spacing: Sequence[float], voxel: Sequence[int], region: Array | None) -> int:
    """Return the axis that is perpendicular to the plane to show."""
    thick = int(np.argmax(spacing))
    if spacing[thick] >= _NATIVE * sorted(spacing)[1]:
        return thick
    if region is None:
        return 2
    volume = float(np.prod(spacing))
    areas = [np.count_nonzero(np.take(region, voxel[axis], axis)) * volume / spacing[axis] for axis in range(3)]
    return max((2, 1, 0), key=lambda axis: areas[axis])


def _figures(views: Mapping[str, CaseView], planes: Mapping[str, Plane], size: int) -> list[Figure]:
    first = next(iter(planes.values()))
    view = next(iter(views.values()))
    pixels = display_size(first, [first], size)
    where = f"{view.name}, {first.title}" if first.title else view.name
    height, width = pixels

    def figure(picture: Array, column: str, words: str) -> Figure:
        return Figure(png_data_uri(picture), f"{where}: {words}", width, height, first.title, column)

    figures: list[Figure] = []
    if view.image is not None:
        figures.append(figure(draw_image(first, pixels), "image", "image"))
    if first.reference is not None:
        areas = describe_areas(view, first, first.reference)
        picture = draw_contours(first, first.reference, None, view.legend, pixels)
        figures.append(figure(picture, "reference", f"reference: {areas}"))
    for name, plane in planes.items():
        if plane.prediction is not None:
            picture = draw_contours(plane, plane.prediction, plane.reference, view.legend, pixels)
            figures.append(figure(picture, name, f"{name}: {describe_areas(view, plane, plane.prediction)}"))
    return figures


def _caption(plane: Plane, words: str) -> str:
    lines = "White line in the pictures of the methods: the reference."
    if not plane.title:
        return lines
    through = f"The plane through {words}." if words else "The plane with the most labels."
    return f"{through} {lines} R: the patient's right."
