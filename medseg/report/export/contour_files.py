"""Contours of label maps as SVG, and as GeoJSON for QuPath."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.report.media.contours import label_polygons, simplify_ring
from medseg.report.media.figures.case import css_color
from medseg.report.media.planes import Plane
from medseg.report.palette import Legend

Array = NDArray[Any]

_LINE_SHARE = 400
"""The longer side of a picture, in widths of a line."""


def plane_svg(plane: Plane, legend: Legend, title: str) -> str:
    """Return a plane as SVG: its image, and groups of contours that a drawing program can edit.

    The group ``reference`` has solid lines, ``prediction`` translucent areas with dashed lines; each path has
    the name of its label as title. One unit is a millimeter in planes of volumes, else a unit of the spacing.

    Args:
        plane: the plane.
        legend: names and colors of the labels.
        title: title of the drawing.
    """
    height, width = plane.size_mm
    line = max(height, width) / _LINE_SHARE
    unit = "mm" if plane.title else "px"
    dashes = f"{3 * line:.4g} {2 * line:.4g}"
    groups = ""
    if plane.prediction is not None:
        paths = _paths(plane, plane.prediction, legend, filled=True)
        groups += f'<g id="prediction" stroke-width="{line:.4g}" stroke-dasharray="{dashes}">\n{paths}</g>\n'
    if plane.reference is not None:
        paths = _paths(plane, plane.reference, legend, filled=False)
        groups += f'<g id="reference" stroke-width="{line:.4g}">\n{paths}</g>\n'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.6g}{unit}" height="{height:.6g}{unit}" '
        f'viewBox="0 0 {width:.6g} {height:.6g}">\n<title>{escape(title)}</title>\n'
        f'<image id="image" width="{width:.6g}" height="{height:.6g}" preserveAspectRatio="none" '
        f'href="{_png(plane.image)}"/>\n{groups}</svg>\n'
    )


def _paths(plane: Plane, label_map: Array, legend: Legend, *, filled: bool) -> str:
    """Return a path for each label."""
    palette = legend.palette(max(int(label_map.max(initial=0)), 0) + 1)
    paths = ""
    for index in np.unique(label_map):
        if index >= legend.first:
            color = css_color(palette[index])
            fill = f'fill="{color}" fill-opacity="0.25" fill-rule="evenodd"' if filled else 'fill="none"'
            data = _path_data(label_map == index, plane.pixel_mm)
            name = escape(legend.name(int(index)))
            paths += f'<path {fill} stroke="{color}" d="{data}"><title>{name}</title></path>\n'
    return paths


def _path_data(mask: Array, pixel_mm: tuple[float, float]) -> str:
    """Return the contours of a mask as the data of an SVG path."""
    parts = []
    for polygon in label_polygons(mask):
        for ring in polygon.rings:
            points = simplify_ring(ring)[:-1] * (pixel_mm[1], pixel_mm[0])
            parts.append(f"M{' '.join(f'{x:.6g},{y:.6g}' for x, y in points)}Z")
    return "".join(parts)


def _png(image: Array) -> str:
    stream = BytesIO()
    Image.fromarray(image).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def contours_geojson(label_map: Array, legend: Legend) -> str:
    """Return the regions of a label map as GeoJSON annotations for QuPath (File > Import objects).

    Every connected region is a feature: a polygon with closed rings, holes as further rings, in pixels of the
    picture, where the first pixel covers 0 to 1. Its classification has the name and color of the label.

    Args:
        label_map: class indices (H, W).
        legend: names and colors of the labels.
    """
    palette = legend.palette(max(int(label_map.max(initial=0)), 0) + 1)
    features = [
        polygon_feature([polygon.rings], legend.name(int(index)), palette[index])
        for index in np.unique(label_map)
        if index >= legend.first
        for polygon in label_polygons(label_map == index)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


def polygon_feature(parts: Sequence[Sequence[Array]], name: str, color: Array) -> dict[str, Any]:
    """Return a GeoJSON annotation for QuPath.

    Args:
        parts: for each polygon its rings, the outer one first.
        name, color: of its classification.
    """
    polygons = [[simplify_ring(ring).tolist() for ring in rings] for rings in parts]
    geometry: dict[str, Any] = {"type": "MultiPolygon", "coordinates": polygons}
    if len(polygons) == 1:
        geometry = {"type": "Polygon", "coordinates": polygons[0]}
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name, "color": [int(part) for part in color]},
        },
    }
