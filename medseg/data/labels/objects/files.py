"""Objects from a file for each, GeoJSON and panoptic files: values and numbers on the image's grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import Case
from medseg.data.io.coco_panoptic import is_panoptic_label, read_panoptic_index, split_panoptic_label
from medseg.data.io.geojson import read_geojson_objects, value_of
from medseg.data.labels.objects.numbering import number_objects
from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, DataError, GeometryError
from medseg.geometry import Array, Grid

Maps = tuple[NDArray[np.int32], NDArray[np.int32]]
"""(*S) values, and (*S) numbers of the objects."""


def is_geojson(path: Path | None) -> bool:
    """Whether the labels of a case are GeoJSON."""
    return path is not None and path.name.lower().endswith(".geojson")


def is_drawn(case: Case) -> bool:
    """Whether the labels of a case are COCO annotations, panoptic ones among them, or GeoJSON."""
    return is_geojson(case.label) or (case.label is not None and ".json#" in case.label.name)


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


def read_panoptic_classes(label: Path, grid: Grid, void: int | None) -> NDArray[np.int32]:
    """Read the category of each pixel (H, W).

    Args:
        label: ``FILE.json#IMAGE.png``.
        grid: of the image.
        void: value of pixels without a segment; None: 0.

    Raises:
        DataError: the PNG is missing, or has a segment that is not in the JSON.
        GeometryError: its size is not the image's.
    """
    present, index, classes, _ = _segments(label, grid)
    empty = 0 if void is None else void
    values = np.array([classes.get(number, empty) for number in present], np.int32)
    return values[index]


def read_panoptic_objects(label: Path, grid: Grid, void: int | None) -> Maps:
    """Read the objects of countable classes: categories and numbers of the objects, both (H, W).

    Stuff is background; pixels without a segment, and groups of objects, have the value ``void``. Arguments and
    errors as :func:`read_panoptic_classes`.
    """
    present, index, classes, crowds = _segments(label, grid)
    categories = split_panoptic_label(label)[0].categories
    things = {number for number, kind in classes.items() if categories[kind].is_thing} - crowds
    empty = 0 if void is None else void
    values = [
        classes[number] if number in things else empty if number == 0 or number in crowds else 0
        for number in present
    ]
    numbers = np.array([number if number in things else 0 for number in present])
    return np.array(values, np.int32)[index], number_objects(numbers)[index]


def _segments(label: Path, grid: Grid) -> tuple[list[int], NDArray[np.int64], dict[int, int], frozenset[int]]:
    """Return the numbers of the segments, the index of each pixel in them, their categories, and the crowds."""
    panoptic, name = split_panoptic_label(label)
    numbers, entry = panoptic.read(name), panoptic.entries[name]
    if numbers.shape != tuple(grid.shape):
        raise GeometryError(
            f"{entry.file}: has {numbers.shape} pixels, the image {tuple(grid.shape)}", path=entry.file
        )
    present, index = np.unique(numbers, return_inverse=True)
    return present.tolist(), index.reshape(numbers.shape), entry.classes, entry.crowds


def panoptic_schema(files: Sequence[Path]) -> LabelSchema:
    """Return the labels of panoptic JSON files: all categories, without a background; void is ignored.

    Raises:
        DataError: files differ in their categories, or one has the id 0.
    """
    names: dict[int, str] = {}
    for file in files:
        for value, one in read_panoptic_index(file).categories.items():
            if value == 0 or names.get(value, one.name) != one.name:
                raise DataError(
                    f"{file}: the category {one.name!r} has the id {value}, "
                    + ("which is that of void" if value == 0 else f"in another file that of {names[value]!r}"),
                    path=file,
                )
            names[value] = one.name
    table = {name: (value,) for value, name in sorted(names.items())}
    if len(table) < len(names):
        raise DataError(f"{files[0]}: categories share a name: {sorted(names.values())}", path=files[0])
    void = next(value for value in (255, max(names, default=0) + 1) if value not in names)
    return LabelSchema(names=table, ignore_value=void, background=False)


def countable_schema(cases: Iterable[Case], schema: LabelSchema) -> LabelSchema:
    """Return the schema of the countable categories: a background, and the labels that are things.

    Raises:
        ConfigError: no label is a thing.
    """
    files = {str(case.label).rpartition("#")[0] for case in cases if is_panoptic_label(case.label)}
    categories = [one for file in files for one in read_panoptic_index(Path(file)).categories.values()]
    things = {one.id for one in categories if one.is_thing}
    names = {name: group for name, group in schema.names.items() if set(group) <= things}
    if not names:
        raise ConfigError(
            f"data.instances: none of the labels {list(schema.names)} is countable (isthing)",
            hint="Leave data.instances out, or name things of the dataset under data.labels.names.",
        )
    return LabelSchema(
        names={"background": (0,), **names}, ignore_value=schema.ignore_value,
        colors={name: color for name, color in schema.colors.items() if name in names},
    )  # fmt: skip
