"""Figures of one case for a page: image, reference, prediction and errors as PNG data URIs with alt texts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.report.media.case_view import CaseView
from medseg.report.media.drawing import draw_errors, draw_image, draw_labels
from medseg.report.media.error_map import ERROR_COLORS, ERROR_NAMES
from medseg.report.media.planes import Plane, display_planes
from medseg.report.media.windows import Window
from medseg.report.palette import Bytes

Array = NDArray[Any]

_SMALLEST, _GAP = 96, 6
_MOST_ENLARGED = 2.5
"""How much more a small plane may be enlarged than the largest one."""
_PICTURE = 1.5
"""How much larger pictures are than planes of volumes, of which there are three."""
_MOST_NAMED = 6
_COLORS_STORED = 128


@dataclass(frozen=True)
class FigureOptions:
    """How the figures of a case are drawn.

    Attributes:
        size: pixels of the longest side of a plane of a volume; those of pictures are 1.5 times as large.
        max_bytes: limit of all figures of the case together, as text; ``size`` is reduced to stay below it.
        window: gray values that are drawn black and white.
        crop: leave out what is far from labels.
    """

    size: int = 256
    max_bytes: int = 250_000
    window: Window = "auto"
    crop: bool = True


DEFAULTS = FigureOptions()


@dataclass(frozen=True)
class Figure:
    """One picture.

    Attributes:
        source: PNG as a data URI.
        alt: text that describes the picture.
        width: pixels.
        height: pixels.
        row: plane, such as ``axial, z = 12``; empty for pictures.
        column: ``image``, ``reference``, ``prediction`` or ``errors``.
    """

    source: str
    alt: str
    width: int
    height: int
    row: str
    column: str


@dataclass(frozen=True)
class CaseFigures:
    """The figures of one case.

    Attributes:
        name: name of the case.
        figures: row by row.
        caption: what is shown.
        legend: text and color (``#rrggbb``) of the labels and errors that are shown.
    """

    name: str
    figures: tuple[Figure, ...]
    caption: str
    legend: tuple[tuple[str, str], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the columns."""
        return tuple(dict.fromkeys(figure.column for figure in self.figures))

    @property
    def rows(self) -> tuple[str, ...]:
        """Titles of the rows."""
        return tuple(dict.fromkeys(figure.row for figure in self.figures))

    @property
    def size(self) -> int:
        """Length of all data URIs together."""
        return sum(len(figure.source) for figure in self.figures)

    def to_html(self) -> str:
        """Return the figures as HTML, with a legend and a caption; ``viewer_style`` has its CSS."""
        rows = "".join(f'<div class="case-row">{self._row_html(row)}</div>' for row in self.rows)
        legend = "".join(f"<li>{swatch(color)} {escape(text)}</li>" for text, color in self.legend)
        legend = f'<ul class="case-legend">{legend}</ul>' if legend else ""
        caption = f'<p class="case-caption">{escape(self.caption)}</p>'
        return f'<div class="case-figures">{rows}{legend}{caption}</div>'

    def _row_html(self, row: str) -> str:
        cells = []
        for figure in self.figures:
            if figure.row == row:
                caption = f"{figure.column}, {row}" if row else figure.column
                cells.append(
                    f'<figure><img src="{figure.source}" alt="{escape(figure.alt, quote=True)}" '
                    f'width="{figure.width}" height="{figure.height}" decoding="async">'
                    f"<figcaption>{escape(caption)}</figcaption></figure>"
                )
        return "".join(cells)


def swatch(color: str) -> str:
    """Return a small square of a color (``#rrggbb``) as SVG, which needs no inline style."""
    return (
        '<svg class="swatch" width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">'
        f'<rect width="12" height="12" rx="2" fill="{color}" stroke="#808080"/></svg>'
    )


def case_figures(view: CaseView, options: FigureOptions = DEFAULTS) -> CaseFigures:
    """Draw a case: image, reference, prediction and errors; a volume in three planes through its largest error.

    Planes keep their physical aspect ratio. Missed voxels are magenta, extra ones light green,
    voxels with another label brown; no label of the default palette has these colors.

    Args:
        view: the case.
        options: sizes, gray values.

    Example:
        >>> view = CaseView("a", (1.0, 1.0), image=np.zeros((8, 8), np.uint8), prediction=np.eye(8, dtype=int))
        >>> case_figures(view).columns
        ('image', 'prediction')
    """
    planes = display_planes(view, window=options.window, crop=options.crop)
    size = options.size if view.spatial_dims == 3 else round(options.size * _PICTURE)
    while True:
        figures = tuple(figure for plane in planes for figure in _plane_figures(view, plane, planes, size))
        excess = sum(len(figure.source) for figure in figures) / options.max_bytes
        if excess <= 1 or size <= _SMALLEST:
            return CaseFigures(view.name, figures, _caption(view, planes), plane_legend(view, planes))
        size = max(_SMALLEST, min(int(size * 0.9), int(size * (0.95 / excess) ** 0.5)))


def plane_pictures(view: CaseView, plane: Plane, size: tuple[int, int]) -> dict[str, Bytes]:
    """Draw a plane as column → (height, width, 3) uint8.

    Args:
        view: the case.
        plane: one of its planes.
        size: height and width in pixels.
    """
    pictures = {} if view.image is None else {"image": draw_image(plane, size)}
    if plane.reference is not None:
        pictures["reference"] = draw_labels(plane, plane.reference, view.legend, size)
    if plane.prediction is not None:
        pictures["prediction"] = draw_labels(plane, plane.prediction, view.legend, size)
    if plane.errors is not None:
        pictures["errors"] = draw_errors(plane, view.legend, size)
    return pictures


def plane_strip(view: CaseView, plane: Plane, size: tuple[int, int]) -> Bytes:
    """Draw image, reference, prediction and errors of a plane side by side, (height, total width, 3) uint8.

    Args:
        view: the case.
        plane: one of its planes.
        size: height and width in pixels of each part.
    """
    parts: list[Bytes] = []
    for picture in plane_pictures(view, plane, size).values():
        parts += [np.full((size[0], _GAP, 3), 255, np.uint8)] if parts else []
        parts.append(picture)
    return np.concatenate(parts, axis=1)


def display_size(plane: Plane, planes: list[Plane], longest: int) -> tuple[int, int]:
    """Return height and width of a plane in pixels: ``longest``, or less for a much smaller plane."""
    common = longest / max(max(one.size_mm) for one in planes)
    height, width = plane.size_mm
    scale = min(longest / max(height, width), _MOST_ENLARGED * common)
    return max(8, round(height * scale)), max(8, round(width * scale))


def png_data_uri(picture: Bytes) -> str:
    """Return a picture (H, W, 3) uint8 as PNG data URI: gray, or with a palette of up to 256 colors.

    A picture with more colors is reduced to 128.
    """
    stream = BytesIO()
    _reduced_colors(picture).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _reduced_colors(picture: Bytes) -> Image.Image:
    if (picture == picture[..., :1]).all():
        return Image.fromarray(picture[..., 0])
    packed = picture.astype(np.int32) @ np.array((1 << 16, 1 << 8, 1))
    colors, indices = np.unique(packed, return_inverse=True)
    if len(colors) > 256:
        image = Image.fromarray(picture)
        return image.quantize(_COLORS_STORED, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image = Image.fromarray(indices.reshape(picture.shape[:2]).astype(np.uint8), "P")
    image.putpalette(
        np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=-1).astype(np.uint8).tobytes()
    )
    return image


def _plane_figures(view: CaseView, plane: Plane, planes: list[Plane], size: int) -> list[Figure]:
    height, width = display_size(plane, planes, size)
    pictures = plane_pictures(view, plane, (height, width))
    return [
        Figure(png_data_uri(picture), _alt(view, plane, column), width, height, plane.title, column)
        for column, picture in pictures.items()
    ]


def _alt(view: CaseView, plane: Plane, column: str) -> str:
    """Describe a figure: case, plane, and the areas that it shows."""
    where = f"{view.name}, {plane.title}" if plane.title else view.name
    if column == "image":
        return f"{where}: image"
    unit = "mm²" if plane.title else "pixels"
    area = plane.pixel_mm[0] * plane.pixel_mm[1] if plane.title else 1.0
    if column == "errors":
        assert plane.errors is not None
        counts = np.bincount(plane.errors.ravel(), minlength=4)
        parts = [f"{ERROR_NAMES[k]} {counts[k] * area:,.0f} {unit}" for k in ERROR_NAMES if counts[k]]
        return f"{where}: errors: {', '.join(parts) or 'none in this plane'}"
    label_map = plane.reference if column == "reference" else plane.prediction
    assert label_map is not None
    return f"{where}: {column}: {describe_areas(view, plane, label_map)}"


def describe_areas(view: CaseView, plane: Plane, label_map: Array) -> str:
    """Return the labels in a plane with their areas, such as ``liver 1,200 mm²``, for alt texts."""
    unit = "mm²" if plane.title else "pixels"
    area = plane.pixel_mm[0] * plane.pixel_mm[1] if plane.title else 1.0
    values, counts = np.unique(label_map[label_map >= view.legend.first], return_counts=True)
    parts = [f"{view.legend.name(int(v))} {n * area:,.0f} {unit}" for v, n in zip(values, counts, strict=True)]
    more = f" and {len(parts) - _MOST_NAMED} more" if len(parts) > _MOST_NAMED else ""
    return f"{', '.join(parts[:_MOST_NAMED]) or 'no label in this plane'}{more}"


def plane_legend(view: CaseView, planes: Sequence[Plane]) -> tuple[tuple[str, str], ...]:
    """Return text and color of the labels and errors in planes."""
    maps = [m for p in planes for m in (p.reference, p.prediction) if m is not None]
    shown = sorted({int(value) for one in maps for value in np.unique(one) if value >= view.legend.first})
    palette = view.legend.palette(max(shown, default=0) + 1)
    entries = [(view.legend.name(value), css_color(palette[value])) for value in shown]
    kinds = {int(k) for p in planes if p.errors is not None for k in np.unique(p.errors)}
    entries += [(f"error: {ERROR_NAMES[k]}", css_color(ERROR_COLORS[k])) for k in ERROR_NAMES if k in kinds]
    return tuple(entries)


def css_color(color: Any) -> str:
    """Return a color (red, green, blue) as ``#rrggbb``."""
    return "#" + "".join(f"{int(part):02x}" for part in color)


def _caption(view: CaseView, planes: list[Plane]) -> str:
    wrong = any(p.errors is not None and p.errors.any() for p in planes)
    height, width = planes[0].size_mm
    cropped = any(p.corner != (0, 0) for p in planes)
    if view.spatial_dims == 2:
        return "The region with labels is enlarged." if cropped else "The whole picture."
    through = "Three planes through the largest error" if wrong else "The planes with the most labels"
    region = f"; cropped to the labels, axial {width:.0f} × {height:.0f} mm" if cropped else ""
    return f"{through}{region}. R: the patient's right."
