"""Objects drawn as GeoJSON polygons, as QuPath exports them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from skimage.draw import polygon

from medseg.errors import DataError
from medseg.geometry import Array

SUFFIX = ".geojson"
UNNAMED = "object"
"""Name of objects without a classification."""


@dataclass(frozen=True)
class DrawnObject:
    """An object of a picture.

    Attributes:
        name: its classification.
        box: the part of the picture around it.
        mask: (*box) bool.
    """

    name: str
    box: tuple[slice, slice]
    mask: Array

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))


def read_geojson_objects(path: Path, shape: Sequence[int]) -> list[DrawnObject]:
    """Read the polygons of a file, the largest first; points and lines are left out.

    A pixel belongs to an object if its center lies inside. Pixel (row 0, column 0) covers 0 to 1, as in QuPath.

    Args:
        path: a FeatureCollection, a list of features, or one feature.
        shape: height and width of the picture.

    Raises:
        DataError: the file is not GeoJSON, or a polygon has no valid coordinates.
    """
    drawn: list[DrawnObject] = []
    for number, feature in enumerate(_features(path)):
        try:
            found = _draw(feature, shape)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"{path}: feature {number}: expected a polygon with rings of x and y ({error})", path=path
            ) from error
        if found is not None:
            drawn.append(found)
    return sorted(drawn, key=lambda one: -one.area)


def read_geojson_names(path: Path) -> set[str]:
    """Return the classifications of the polygons of a file; errors as :func:`read_geojson_objects`."""
    return {_name(one) for one in _features(path) if _kind(one) in ("Polygon", "MultiPolygon")}


def _features(path: Path) -> list[dict[str, Any]]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})", path=path) from error
    if isinstance(content, dict):
        table = cast(dict[str, Any], content)
        content = table.get("features", [table])
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in cast(list[Any], content)):
        raise DataError(f"{path}: expected GeoJSON, a FeatureCollection or a list of features", path=path)
    return cast(list[dict[str, Any]], content)


def _kind(feature: dict[str, Any]) -> str:
    return str((feature.get("geometry") or {}).get("type"))


def _name(feature: dict[str, Any]) -> str:
    """Return the classification; QuPath stores derived classes in parts, ``names: [Tumor, Positive]``."""
    classification: Any = (feature.get("properties") or {}).get("classification")
    if isinstance(classification, dict):
        table = cast(dict[str, Any], classification)
        classification = table.get("name") or ": ".join(map(str, table.get("names") or ()))
    return str(classification) if classification else UNNAMED


def _draw(feature: dict[str, Any], shape: Sequence[int]) -> DrawnObject | None:
    """Draw one feature; None if it encloses no pixel."""
    kind = _kind(feature)
    if kind not in ("Polygon", "MultiPolygon"):
        return None
    coordinates: Any = feature["geometry"]["coordinates"]
    parts = [coordinates] if kind == "Polygon" else coordinates
    rings = [[np.asarray(ring, np.float64)[:, :2] for ring in part] for part in parts]
    points = np.concatenate([ring for part in rings for ring in part])
    low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, shape[::-1])
    high = np.clip(np.ceil(points.max(axis=0)).astype(int), low, shape[::-1])
    mask = np.zeros(tuple((high - low)[::-1]), bool)
    for part in rings:
        mask |= _fill(part, low, mask.shape)
    if not mask.any():
        return None
    box = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    return DrawnObject(_name(feature), box, mask)


def _fill(rings: Sequence[Array], start: Array, shape: tuple[int, ...]) -> Array:
    """Return the pixels (*shape) inside the first ring and outside of the others, from ``start`` (x, y) on."""
    inside = np.zeros(shape, bool)
    for ring in rings:
        columns, rows = (ring - start - 0.5).T
        own = np.zeros(shape, bool)
        own[polygon(rows, columns, shape)] = True
        inside ^= own
    return inside


def value_of(one: DrawnObject, values: dict[str, int], path: Path) -> int:
    """Return the value of an object's label; with one label, objects without a classification have it.

    Raises:
        DataError: the classification is not among the labels.
    """
    name = next(iter(values)) if one.name == UNNAMED and len(values) == 1 else one.name
    if name not in values:
        raise DataError(
            f"{path}: an object is classified as {name!r}, which is not among the labels {list(values)}",
            hint="Add it to data.labels.names.",
            path=path,
        )
    return values[name]
