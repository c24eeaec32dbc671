"""Pictures of one plane: the image, a label map over it, and the errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medseg.report.media.contours import label_polygons
from medseg.report.media.error_map import ERROR_COLORS
from medseg.report.media.planes import Plane
from medseg.report.palette import Bytes, Legend
from medseg.report.scaling import as_gray, as_rgb, resize, resize_label

Array = NDArray[Any]

_FILL, _AGREED, _DIM = 0.3, 0.3, 0.6
_GRAY_STEP = 2.0
"""Step of the gray values below errors, so that all colors fit into a palette."""
_IGNORED_COLOR = (150, 150, 150)
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_OVERSAMPLING = 3
_LETTER = 13
_LINE, _THIN_LINE, _HALO = 1.6, 1.0, 3.0
"""Width of contours in pixels; the thin one is for reduced pictures."""


def draw_image(plane: Plane, size: tuple[int, int]) -> Bytes:
    """Draw the image of a plane, with the letters of directions, as (height, width, 3) uint8."""
    picture = Image.fromarray(as_rgb(_resized(plane.image, size)).copy())
    _letter_edges(picture, plane.letters)
    return np.array(picture)


def draw_labels(plane: Plane, label_map: Array, legend: Legend, size: tuple[int, int]) -> Bytes:
    """Draw a label map over the image in gray: translucent, with contours in full color.

    Args:
        plane: gives the image.
        label_map: class indices (H, W); pixels that are not annotated, with negative values, are drawn gray.
        legend: colors of the classes.
        size: height and width of the picture.
    """
    picture = as_rgb(as_gray(_resized(plane.image, size))).astype(float)
    colors = legend.palette(max(int(label_map.max(initial=0)), 0) + 1)
    shown = resize_label(label_map, size)
    ink = colors[np.maximum(shown, 0)].astype(float)
    ink[shown < 0] = _IGNORED_COLOR
    share = np.where((shown >= legend.first) | (shown < 0), _FILL, 0.0)[..., None]
    picture = picture * (1 - share) + ink * share
    for index, mask in _classes(label_map, legend):
        picture = _with_contour(picture, mask, tuple(colors[index]))
    return np.rint(picture).astype(np.uint8)


def draw_contours(
    plane: Plane, label_map: Array, reference: Array | None, legend: Legend, size: tuple[int, int]
) -> Bytes:
    """Draw the contours of a label map over the image in gray, and those of a reference as white lines.

    Args:
        plane: gives the image.
        label_map: class indices (H, W); its contours are in the colors of the classes, on top.
        reference: class indices (H, W); None for none.
        legend: colors of the classes.
        size: height and width of the picture.
    """
    picture = as_rgb(as_gray(_resized(plane.image, size))).astype(float)
    if reference is not None:
        masks = [mask for _, mask in _classes(reference, legend)]
        for color, width in ((_BLACK, _HALO), (_WHITE, _LINE)):  # the halo shows on light images
            for mask in masks:
                picture = _with_contour(picture, mask, color, width)
    colors = legend.palette(max(int(label_map.max(initial=0)), 0) + 1)
    for index, mask in _classes(label_map, legend):
        picture = _with_contour(picture, mask, tuple(colors[index]))
    return np.rint(picture).astype(np.uint8)


def draw_errors(plane: Plane, legend: Legend, size: tuple[int, int]) -> Bytes:
    """Draw the errors of a plane over the dimmed image; where reference and prediction agree, it is lighter."""
    assert plane.errors is not None
    assert plane.reference is not None
    picture = as_rgb(as_gray(_resized(plane.image, size))).astype(float) * _DIM
    agreed = (resize_label(plane.reference, size) >= legend.first) * _AGREED
    picture = picture + (255 - picture) * agreed[..., None]
    table = np.zeros((4, 3))
    for kind, color in ERROR_COLORS.items():
        table[kind] = color
    shown = resize_label(plane.errors, size)
    picture = np.where(shown[..., None] > 0, table[shown], picture // _GRAY_STEP * _GRAY_STEP)
    return np.rint(picture).astype(np.uint8)


def _resized(image: Array, size: tuple[int, int]) -> Bytes:
    return resize(image, size, np.uint8, Image.Resampling.BICUBIC)


def _classes(label_map: Array, legend: Legend) -> Iterator[tuple[int, Array]]:
    for index in np.unique(label_map):
        if index >= legend.first:
            yield int(index), label_map == index


def _with_contour(picture: Array, mask: Array, color: tuple[int, ...], line: float = _LINE) -> Array:
    """Draw the contour of a mask (h, w), scaled to the picture (H, W, 3) float, antialiased."""
    height, width_px = picture.shape[:2]
    n = _OVERSAMPLING
    width = line if height >= mask.shape[0] else line * _THIN_LINE / _LINE
    scale = np.array((width_px / mask.shape[1], height / mask.shape[0])) * n
    stencil = Image.new("L", (width_px * n, height * n))
    pen = ImageDraw.Draw(stencil)
    for polygon in label_polygons(mask):
        for ring in polygon.rings:
            points = [(float(x), float(y)) for x, y in ring * scale]
            pen.line(points, fill=255, width=max(1, round(width * n)), joint="curve")
    share = np.array(stencil.resize((width_px, height), Image.Resampling.BOX))[..., None] / 255
    return picture * (1 - share) + np.array(color, float) * share


def _letter_edges(picture: Image.Image, letters: str) -> None:
    """Draw the direction letters at the left, right, top and bottom edge."""
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_LETTER)
    w, h = picture.size
    spots = ((4, h / 2, "lm"), (w - 4, h / 2, "rm"), (w / 2, 3, "mt"), (w / 2, h - 3, "mb"))
    for letter, (x, y, anchor) in zip(letters, spots, strict=False):
        pen.text((x, y), letter, (240, 240, 240), font, anchor, stroke_width=1, stroke_fill=(20, 20, 20))
