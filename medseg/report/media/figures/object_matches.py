"""Figures of a case whose objects are compared: outlines of found, missed and false ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.metrics.instances import counted_objects, match_objects, overlaps_of_label_maps
from medseg.report.html import show
from medseg.report.media.case_view import CaseView
from medseg.report.media.drawing import draw_image
from medseg.report.media.error_map import ERROR_COLORS, EXTRA, MISSED, labeled_box
from medseg.report.media.figures.case import CaseFigures, Figure, css_color, display_size, png_data_uri
from medseg.report.media.planes import PLANES, Plane, cut_plane, focus_voxel, margin_mm
from medseg.report.media.windows import display_window
from medseg.report.palette import Bytes, label_palette
from medseg.report.pictures import border
from medseg.report.scaling import as_gray, as_rgb, resize, resize_label

Array = NDArray[Any]

FOUND_COLOR = tuple(int(part) for part in label_palette(2)[1])
MISSED_COLOR, FALSE_COLOR = ERROR_COLORS[MISSED], ERROR_COLORS[EXTRA]

_HALO = (20, 20, 20)
"""Around outlines, so that they show on light images."""
_PICTURE, _VOLUME, _SMALLEST = 640, 384, 160
_WIDE = 1.5
"""Enlargement from which outlines are two pixels wide."""
_GRAY_STEP = 2
"""Step of the gray values, so that all colors fit into a palette."""


@dataclass(frozen=True, eq=False)
class MatchedObjects:
    """Numbered objects of a case, and which of them are matched.

    Attributes:
        reference: (*S) numbers of the reference objects that count, 0 elsewhere.
        predicted: (*S) likewise.
        found: numbers of the reference objects that are matched.
        right: numbers of the predicted objects that are matched.

    Example:
        >>> both = MatchedObjects.of(np.array([7, 7, 0, 9]), np.array([2, 2, 2, 0]), 0.5)
        >>> both.found.tolist(), both.right.tolist(), both.counts
        ([7], [2], (1, 1, 0))
    """

    reference: Array
    predicted: Array
    found: Array
    right: Array

    @classmethod
    def of(cls, reference: Array, predicted: Array, iou: float, ignored: Array | None = None) -> MatchedObjects:
        """Match objects one to one.

        Args:
            reference: (*S) non-negative integers, 0 for background.
            predicted: (*S) likewise.
            iou: least intersection over union of a match.
            ignored: (*S) bool, voxels that do not count.
        """
        numbers = [np.unique(one[one > 0]) for one in (reference, predicted)]
        kept = [
            own[flags]
            for own, flags in zip(numbers, counted_objects(reference, predicted, ignored), strict=True)
        ]
        overlaps = overlaps_of_label_maps(reference, predicted, ignored)
        pairs = match_objects(overlaps, iou)
        maps = [one * np.isin(one, own) for one, own in zip((reference, predicted), kept, strict=True)]
        found, right = kept[0][overlaps.reference[pairs]], kept[1][overlaps.predicted[pairs]]
        return cls(maps[0], maps[1], found, right)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Numbers of found, missed and false objects."""
        return _counts(self.reference, self.predicted, self)


def object_figures(view: CaseView, objects: MatchedObjects, max_bytes: int = 250_000) -> CaseFigures:
    """Draw a case: image, and the outlines of found, missed and false objects over it.

    A volume is shown in three planes through its largest missed or false object; objects are matched in 3D.

    Args:
        view: the case, whose label maps are the numbers in ``objects``, in display orientation.
        objects: which objects are matched.
        max_bytes: limit of all figures together, as text; their size is reduced to stay below it.
    """
    planes = _planes(view, objects)
    size = _PICTURE if view.spatial_dims == 2 else _VOLUME
    while True:
        figures = tuple(f for plane in planes for f in _plane_figures(view, plane, planes, (objects, size)))
        excess = sum(len(figure.source) for figure in figures) / max_bytes
        if excess <= 1 or size <= _SMALLEST:
            break
        size = max(_SMALLEST, min(int(size * 0.9), int(size * (0.95 / excess) ** 0.5)))
    names = ("found, as predicted", "missed, of the reference", "false, as predicted")
    colors = (FOUND_COLOR, MISSED_COLOR, FALSE_COLOR)
    legend = tuple(
        (f"{name}: {show(count)}", css_color(color))
        for name, count, color in zip(names, objects.counts, colors, strict=True)
    )
    return CaseFigures(view.name, figures, _caption(view, planes), legend)


def draw_matches(plane: Plane, objects: MatchedObjects, size: tuple[int, int]) -> Bytes:
    """Draw the outlines of objects over the image in gray, (height, width, 3) uint8.

    Args:
        plane: the image, and the numbers of the objects as its label maps.
        objects: which objects are matched.
        size: height and width of the picture.
    """
    assert plane.reference is not None
    assert plane.prediction is not None
    gray = resize(as_gray(plane.image), size, np.uint8, Image.Resampling.BICUBIC)
    picture = as_rgb(gray // _GRAY_STEP * _GRAY_STEP).copy()
    reference, predicted = resize_label(plane.reference, size), resize_label(plane.prediction, size)
    right, found = np.isin(predicted, objects.right), np.isin(reference, objects.found)
    wide = size[0] >= _WIDE * plane.reference.shape[0]
    outlines = (
        (_outline(predicted, right, wide), FOUND_COLOR),
        (_outline(predicted, (predicted > 0) & ~right, wide), FALSE_COLOR),
        (_outline(reference, (reference > 0) & ~found, wide), MISSED_COLOR),
    )
    lines = np.logical_or.reduce([line for line, _ in outlines])
    picture[border(lines.astype(np.uint8)) & ~lines] = _HALO
    for line, color in outlines:
        picture[line] = color
    return picture


def _outline(numbers: Array, shown: Array, wide: bool) -> Array:
    """Return the outer pixels of the objects that are shown, (H, W) bool; two rows of them if ``wide``."""
    line = border(numbers) & shown
    return line | (border(line.astype(np.uint8)) & shown) if wide else line


def _planes(view: CaseView, objects: MatchedObjects) -> list[Plane]:
    window = display_window(view)
    box = labeled_box(view, margin_mm(view))
    if view.spatial_dims == 2:
        return [cut_plane(view, None, window, box)]
    assert view.reference is not None
    assert view.prediction is not None
    wrong = (view.reference > 0) & ~np.isin(view.reference, objects.found)
    wrong |= (view.prediction > 0) & ~np.isin(view.prediction, objects.right)
    focus = focus_voxel(view, wrong.astype(np.uint8))
    return [cut_plane(view, None, window, box, (axis, focus[axis])) for axis in PLANES]


def _plane_figures(
    view: CaseView, plane: Plane, planes: list[Plane], style: tuple[MatchedObjects, int]
) -> list[Figure]:
    objects, longest = style
    assert plane.reference is not None
    assert plane.prediction is not None
    size = display_size(plane, planes, longest)
    where = f"{view.name}, {plane.title}" if plane.title else view.name
    found, missed, false = _counts(plane.reference, plane.prediction, objects)
    words = f"{where}: outlines of {found} found, {missed} missed and {false} false objects"
    pictures = {} if view.image is None else {"image": (draw_image(plane, size), f"{where}: image")}
    pictures["objects"] = draw_matches(plane, objects, size), words
    return [
        Figure(png_data_uri(picture), alt, size[1], size[0], plane.title, column)
        for column, (picture, alt) in pictures.items()
    ]


def _counts(reference: Array, predicted: Array, objects: MatchedObjects) -> tuple[int, int, int]:
    """Count the found, missed and false objects in label maps or in a plane of them."""
    first, second = np.unique(reference[reference > 0]), np.unique(predicted[predicted > 0])
    found = int(np.isin(first, objects.found).sum())
    return found, len(first) - found, int((~np.isin(second, objects.right)).sum())


def _caption(view: CaseView, planes: list[Plane]) -> str:
    cropped = any(plane.corner != (0, 0) for plane in planes)
    if view.spatial_dims == 2:
        return "The region with objects is enlarged." if cropped else "The whole picture."
    through = "Three planes through the largest missed or false object, or the planes with the most objects."
    return f"{through} Objects are matched in 3D. R: the patient's right."
