"""Pictures of cases: gray values, label overlays, and panels of image, reference and prediction.

Volumes are (X, Y, Z) in RAS+ and are shown in radiological convention: the patient's right on the left of the
picture, front or head up; in sagittal views the front on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medseg.files import write_atomic
from medseg.report.palette import PLAIN, Bytes, Legend
from medseg.report.scaling import as_gray, as_rgb, intensity_window, resize, resize_label, stretch

Array = NDArray[Any]

_GRAY = np.array((150, 150, 150), float)

# Pictures are enlarged until the short side has _SHORT pixels, unless the long side would exceed _LONG.
_SHORT, _LONG = 256, 512
_GAP, _MARGIN = 8, 14
_INK, _FAINT, _PAPER = (32, 34, 37), (105, 110, 118), (255, 255, 255)
_CAPTION, _SMALL = 15, 13
_MOST_NAMES = 24

# By axis: name of the plane and its letters at the left, right, top and bottom edge.
_PLANES = {2: ("axial", "RLAP"), 1: ("coronal", "RLSI"), 0: ("sagittal", "APSI")}


def to_uint8(image: Array, low_percentile: float = 1, high_percentile: float = 99) -> Bytes:
    """Scale gray values of any shape and type to 0..255 uint8, between two percentiles of the finite values.

    Values that are not finite become 0, as does an image with a single value. If the percentiles are equal (a
    nearly empty image), the minimum and maximum are used.

    Example:
        >>> import numpy as np
        >>> to_uint8(np.array([0.0, 0.5, 1.0]), 0, 100).tolist()
        [0, 128, 255]
    """
    return stretch(image, intensity_window(image, low_percentile, high_percentile))


def overlay(
    image: Bytes, label: Array, legend: Legend = PLAIN, *, alpha: float = 0.45, outline: bool = True
) -> Bytes:
    """Draw a label map over an image.

    The background is left unchanged; negative labels (not annotated) are hatched in gray.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        label: (H, W) int.
        legend: colors of the labels.
        alpha: opacity of the labels, 0 to 1.
        outline: draw the border pixels of labels in full color.

    Returns:
        Picture (H, W, 3) uint8.

    Raises:
        ValueError: if image and label differ in height or width.
    """
    picture = as_rgb(image).astype(np.float64)
    label = np.asarray(label)
    if label.shape != picture.shape[:2]:
        raise ValueError(f"overlay: got an image of {picture.shape[:2]} and a label of {label.shape} pixels")
    label = label.astype(np.int64)
    colors = legend.palette(max(int(label.max(initial=0)), 0) + 1).astype(np.float64)
    drawn = label >= legend.first
    share = np.where(drawn, alpha, 0.0)
    if outline:
        share[border(label) & drawn] = 1.0
    ink = colors[np.maximum(label, 0)]
    row, column = np.indices(label.shape)
    ignored = label < 0
    ink[ignored] = _GRAY
    share[ignored] = np.where((row + column) % 8 < 2, 0.9, 0.3)[ignored]
    return np.rint(picture * (1 - share[..., None]) + ink * share[..., None]).astype(np.uint8)


def label_picture(label: Array, legend: Legend = PLAIN) -> Bytes:
    """Draw a label map (H, W) int in the colors of a legend, including its background, as (H, W, 3) uint8."""
    paper = np.full((*np.shape(label), 3), legend.palette(1)[0])
    return overlay(paper, label, legend, alpha=1, outline=False)


def best_slice(label: Array | None, shape: Sequence[int], axis: int = 2) -> int:
    """Return the index along an axis of the slice with the most labels and, among those, the largest areas.

    The area of a label in a slice is relative to the largest slice of that label, so that small labels count as
    much as large ones.

    Args:
        label: (X, Y, Z) int; 0 and negative values are not labels. If None or empty, the middle slice is
            returned.
        shape: (X, Y, Z).
        axis: axis of the slices.
    """
    middle = shape[axis] // 2
    if label is None:
        return middle
    slices = np.moveaxis(np.asarray(label), axis, 0)
    histograms = [np.unique(one[one > 0], return_counts=True) for one in slices]
    counts = [dict(zip(values.tolist(), sizes.tolist(), strict=True)) for values, sizes in histograms]
    largest: dict[int, int] = {}
    for one in counts:
        largest.update({value: size for value, size in one.items() if size > largest.get(value, 0)})
    shares = [sum(size / largest[value] for value, size in one.items()) for one in counts]
    return max(range(len(counts)), key=lambda i: (len(counts[i]), shares[i], -abs(i - middle)))


def plane(volume: Array, axis: int, index: int) -> Array:
    """Return a slice of a RAS+ volume (X, Y, Z), oriented for display: (H, W).

    Axial (axis 2): the patient's right on the left, front up. Coronal (1): right on the left, head up. Sagittal
    (0): front on the left, head up.
    """
    return np.take(np.asarray(volume), index, axis=axis)[::-1, ::-1].T


def slice_of(
    volume: Array, label: Array, axis: int = 2, *, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[Array, Array]:
    """Return the best slice of a RAS+ volume and of its label, oriented for display, with square pixels.

    Args:
        volume: (X, Y, Z) gray values.
        label: (X, Y, Z) int; ``best_slice`` chooses by it.
        axis: array axis of the slices: 2 axial, 1 coronal, 0 sagittal.
        spacing: mm along X, Y, Z; the finer spacing in the plane becomes the pixel size.

    Returns:
        Image (H, W) float32, linear interpolation, and label (H, W) int32, nearest neighbor.
    """
    index = best_slice(label, np.shape(volume), axis)
    image = plane(volume, axis, index)
    height, width = _size_mm(image.shape, axis, spacing)
    edge = min(height / image.shape[0], width / image.shape[1])
    size = max(1, round(height / edge)), max(1, round(width / edge))
    picture = resize(image, size, np.float32, Image.Resampling.BILINEAR)
    return picture, resize_label(plane(label, axis, index), size)


def panel(
    image: Array,
    reference: Array | None,
    prediction: Array | None,
    *,
    spacing: Sequence[float],
    legend: Legend = PLAIN,
) -> Image.Image:
    """Draw image, reference and prediction side by side, with captions and a legend of the labels shown.

    Label maps are drawn over the image in gray. A prediction without a reference is shown twice: alone, in full
    color, and over the image. A picture has one row. A volume has three at the same scale, axial, coronal and
    sagittal, through the best slice of the reference or, without one, of the prediction.

    Args:
        image: (H, W) or (H, W, 3), or a RAS+ volume (X, Y, Z). A uint8 picture is shown unchanged; other images
            are scaled as in ``to_uint8``, the three planes of a volume together.
        reference: label map on the grid of the image, negative where not annotated. If None, it is left out.
        prediction: as ``reference``.
        spacing: two numbers for a picture, three for a volume, in array axis order.
        legend: names and colors of the labels, and whether 0 is background.

    Raises:
        ValueError: if the shapes do not match each other or ``spacing``.
    """
    image = np.asarray(image)
    _check_shapes(image, reference, prediction, spacing)
    columns = _columns(reference is not None, prediction is not None)
    maps = [np.asarray(one) for one in (reference, prediction) if one is not None]
    views = _views(image, maps, spacing, legend)
    shown = sorted({int(one) for view in views for label in view.labels for one in np.unique(label)})
    cells = [[_cell(view, column, legend) for column in columns] for view in views]
    return _compose([column.title for column in columns], views, cells, _legend(shown, legend))


def save_png(path: Path, image: Image.Image | Bytes) -> None:
    """Write a picture, (H, W) or (H, W, 3) uint8 or a Pillow image, as PNG atomically."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    with write_atomic(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


@dataclass(frozen=True)
class _View:
    """One row of a panel: picture (H, W[, 3]) uint8 and labels (H, W), at display size."""

    title: str
    letters: str
    image: Bytes
    labels: list[Array]


@dataclass(frozen=True)
class _Column:
    """One column of a panel: the image, or a label map by index, alone or over the image."""

    title: str
    map: int | None = None
    alone: bool = False


def _columns(reference: bool, prediction: bool) -> list[_Column]:
    if reference and prediction:
        return [_Column("image"), _Column("reference", 0), _Column("prediction", 1)]
    if prediction:
        return [_Column("image"), _Column("prediction", 0, alone=True), _Column("overlay", 0)]
    return [_Column("image"), _Column("reference", 0)] if reference else [_Column("image")]


def _cell(view: _View, column: _Column, legend: Legend) -> Bytes:
    if column.map is None:
        return as_rgb(view.image)
    label = view.labels[column.map]
    if column.alone:
        return label_picture(label, legend)
    return overlay(as_gray(view.image), label, legend)  # in gray, so that only labels have color


def _views(image: Array, maps: list[Array], spacing: Sequence[float], legend: Legend) -> list[_View]:
    if len(spacing) == 2:
        extent = image.shape[0] * spacing[0], image.shape[1] * spacing[1]
        gray = image if image.dtype == np.uint8 else to_uint8(image)
        return [_view("", "", gray, maps, extent, _scale([extent], min(spacing)))]
    guide = maps[0].astype(np.int64) + 1 - legend.first if maps else None
    cuts = [(axis, best_slice(guide, image.shape, axis)) for axis in _PLANES]
    planes = [plane(image, *cut) for cut in cuts]
    extents = [_size_mm(one.shape, axis, spacing) for one, (axis, _) in zip(planes, cuts, strict=True)]
    window = intensity_window(np.concatenate([one.ravel() for one in planes]), 1, 99)
    scale = _scale(extents, min(spacing))
    rows = []
    for one, extent, (axis, index) in zip(planes, extents, cuts, strict=True):
        title, letters = _PLANES[axis]
        labels = [plane(each, axis, index) for each in maps]
        caption = f"{title}, {'xyz'[axis]} = {index}"
        rows.append(_view(caption, letters, stretch(one, window), labels, extent, scale))
    return rows


def _view(
    title: str, letters: str, image: Array, labels: list[Array], extent: tuple[float, float], scale: float
) -> _View:
    size = max(1, round(extent[0] * scale)), max(1, round(extent[1] * scale))
    picture = resize(image, size, np.uint8, Image.Resampling.BICUBIC)
    return _View(title, letters, picture, [resize_label(one, size) for one in labels])


def _scale(extents: Sequence[tuple[float, float]], finest: float) -> float:
    """Return the display pixels per mm at which the smallest plane is legible and the largest fits."""
    short = min(min(extent) for extent in extents)
    long = max(max(extent) for extent in extents)
    return min(max(1 / finest, _SHORT / short), _LONG / long)


def _size_mm(shape: tuple[int, ...], axis: int, spacing: Sequence[float]) -> tuple[float, float]:
    """Return height and width in mm of a displayed plane, whose rows are the later array axis."""
    across, down = (one for index, one in enumerate(spacing) if index != axis)
    return shape[0] * down, shape[1] * across


def _check_shapes(
    image: Array, reference: Array | None, prediction: Array | None, spacing: Sequence[float]
) -> None:
    dims = len(spacing)
    colored = dims == 2 and image.ndim == 3 and image.shape[2] == 3
    if dims not in (2, 3) or not (image.ndim == dims or colored):
        raise ValueError(
            f"panel: got an image of shape {image.shape} and {dims} spacings; "
            "expected (H, W) or (H, W, 3) with two, or (X, Y, Z) with three"
        )
    for title, one in (("reference", reference), ("prediction", prediction)):
        if one is not None and np.shape(one) != image.shape[:dims]:
            raise ValueError(f"panel: the {title} has shape {np.shape(one)}, the image {image.shape[:dims]}")


def _legend(shown: Sequence[int], legend: Legend) -> list[tuple[str, tuple[int, ...] | None]]:
    """Return text and color of each legend entry; the color is None for the number of omitted labels."""
    palette = legend.palette(max([0, *shown]) + 1)
    drawn = [one for one in shown if one >= legend.first]
    entries: list[tuple[str, tuple[int, ...] | None]] = [
        (legend.name(one), tuple(int(part) for part in palette[one])) for one in drawn[:_MOST_NAMES]
    ]
    if any(one < 0 for one in shown):
        entries.append(("not annotated", tuple(int(part) for part in _GRAY)))
    if len(drawn) > _MOST_NAMES:
        entries.append((f"and {len(drawn) - _MOST_NAMES} more", None))
    return entries


def _compose(
    titles: Sequence[str],
    views: Sequence[_View],
    cells: Sequence[Sequence[Bytes]],
    legend: Sequence[tuple[str, tuple[int, ...] | None]],
) -> Image.Image:
    caption, small = ImageFont.load_default(_CAPTION), ImageFont.load_default(_SMALL)
    step = max(view.image.shape[1] for view in views) + _GAP
    width = 2 * _MARGIN + step * len(titles) - _GAP
    places, legend_height = _flow(legend, width, small)
    row_title = _SMALL + 8 if views[0].title else 0
    height = _MARGIN + _CAPTION + 8 + legend_height + _MARGIN - _GAP
    height += sum(row_title + view.image.shape[0] + _GAP for view in views)
    page = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(page)
    lefts = [_MARGIN + column * step for column in range(len(titles))]
    for left, title in zip(lefts, titles, strict=True):
        draw.text((left, _MARGIN - 4), title, _INK, caption)
    top = _MARGIN + _CAPTION + 8
    for view, row in zip(views, cells, strict=True):
        if row_title:
            draw.text((_MARGIN, top), view.title, _FAINT, small)
            top += row_title
        for left, cell in zip(lefts, row, strict=True):
            page.paste(Image.fromarray(cell), (left, top))
            _letter_edges(draw, view.letters, (left, top), cell.shape, small)
        top += view.image.shape[0] + _GAP
    for (x, y), (text, color) in zip(places, legend, strict=True):
        if color is not None:
            draw.rectangle((x, top + y + 2, x + 12, top + y + 14), fill=color, outline=_FAINT)
        draw.text((x + 18, top + y), text, _INK, small)
    return page


def _flow(
    legend: Sequence[tuple[str, object]], width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> tuple[list[tuple[int, int]], int]:
    """Return the position of each legend entry, in lines no wider than ``width``, and the total height."""
    places: list[tuple[int, int]] = []
    x, y = _MARGIN, 4
    for text, _ in legend:
        step = 18 + int(font.getlength(text)) + 16
        if x > _MARGIN and x + step > width:
            x, y = _MARGIN, y + 20
        places.append((x, y))
        x += step
    return places, (y + 20 if legend else 0)


def _letter_edges(
    draw: ImageDraw.ImageDraw,
    letters: str,
    corner: tuple[int, int],
    shape: tuple[int, ...],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw the direction letters at the left, right, top and bottom edge."""
    left, top = corner
    height, width = shape[:2]
    spots = (
        (3, height / 2, "lm"),
        (width - 3, height / 2, "rm"),
        (width / 2, 2, "mt"),
        (width / 2, height - 2, "mb"),
    )
    for letter, (x, y, anchor) in zip(letters, spots, strict=False):
        draw.text(
            (left + x, top + y),
            letter,
            (235, 235, 235),
            font,
            anchor,
            stroke_width=1,
            stroke_fill=(20, 20, 20),
        )


def border(label: Array) -> NDArray[np.bool_]:
    """Return pixels with another value above, below, left or right; the edge of the picture is no border."""
    around = np.pad(label, 1, mode="edge")
    neighbors = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    return np.any([label != one for one in neighbors], axis=0)
