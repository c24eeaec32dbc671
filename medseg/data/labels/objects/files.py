"""Objects from a file for each, and from GeoJSON: values and numbers on the image's grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import Case
from medseg.data.io.geojson import read_geojson_objects, value_of
from medseg.data.labels.objects.numbering import number_objects
from medseg.data.labels.schema import LabelSchema
from medseg.geometry import Array

Maps = tuple[NDArray[np.int32], NDArray[np.int32]]
"""(*S) values, and (*S) numbers of the objects."""


def is_geojson(path: Path | None) -> bool:
    """Whether the labels of a case are GeoJSON."""
    return path is not None and path.name.lower().endswith(".geojson")


def has_object_files(cases: Sequence[Case], masks: Sequence[str], schema: LabelSchema | None) -> bool:
    """Return whether the files of a case are its objects rather than its labels.

    They are, if one label is declared and no file has its name; or, without declared labels, if the cases have
    several files, and no name occurs in two cases.
    """
    if not masks:
        return False
    if schema is not None:
        names = list(schema.names)[1:]
        return len(names) == 1 and names[0] not in masks and len(masks) > 1
    total = sum(len(case.masks) for case in cases)
    return len(cases) > 1 and total == len(masks) > 2 * len(cases)


def join_object_masks(masks: Iterable[Array], value: int, shape: tuple[int, ...]) -> Maps:
    """Number objects of a label that have a mask (*S) bool each; where they overlap, the smaller is kept."""
    values, objects = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    sizes: list[int] = [np.iinfo(np.int64).max]
    for number, mask in enumerate(masks, start=1):
        inside = np.flatnonzero(mask)
        sizes.append(len(inside))
        kept = inside[len(inside) < np.asarray(sizes)[objects.reshape(-1)[inside]]]
        objects.reshape(-1)[kept] = number
        values.reshape(-1)[kept] = value
    return values, number_objects(objects)


def read_geojson_maps(path: Path, values: Mapping[str, int], shape: Sequence[int]) -> Maps:
    """Draw the objects of a GeoJSON file, the largest first.

    Raises:
        DataError: the file is not GeoJSON, or an object's classification is not among the labels.
    """
    drawn, objects = np.zeros(tuple(shape), np.int32), np.zeros(tuple(shape), np.int32)
    for number, one in enumerate(read_geojson_objects(path, shape), start=1):
        drawn[one.box][one.mask] = value_of(one, dict(values), path)
        objects[one.box][one.mask] = number
    return drawn, number_objects(objects)
