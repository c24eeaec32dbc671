"""COCO panoptic files from the results of two models: one tells things apart, the other segments stuff."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cases import list_images
from medseg.data.io.coco_panoptic import PanopticCategory, PanopticWriter
from medseg.data.io.readers import image_stem, read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import align_to_grid, as_label_map
from medseg.errors import DataError, GeometryError
from medseg.evaluation.labels import read_labels
from medseg.evaluation.objects.references import (
    NumberedObjects,
    numbered_objects,
    object_table,
    read_class_table,
    read_score_table,
)
from medseg.files import check_exists
from medseg.instances.panoptic import DEFAULT_OPTIONS, PanopticOptions, PanopticSegments, merge_panoptic
from medseg.instances.result import Instances


@dataclass(frozen=True)
class _Sources:
    """The folders of both models, and the categories of their labels, by name."""

    things: Path
    stuff: Path
    categories: tuple[PanopticCategory, ...]

    @property
    def ids(self) -> dict[str, int]:
        """Name of a category → its id."""
        return {one.name: one.id for one in self.categories}


@dataclass(frozen=True)
class MergedPictures:
    """Result of a merge.

    Attributes:
        cases: the pictures that were merged.
        failed: picture that is in one folder only, or cannot be merged → reason.
    """

    cases: list[str]
    failed: dict[str, str]


def merge_panoptic_folders(
    things: Path | str, stuff: Path | str, output: Path | str, options: PanopticOptions = DEFAULT_OPTIONS
) -> MergedPictures:
    """Merge the pictures of two folders of ``medseg infer`` into ``panoptic.json`` and ``panoptic/CASE.png``.

    Labels that both models have are things. Pictures that only one folder has, or that cannot be merged (their
    sizes differ, an object has no class), are left out and listed. PNGs of an earlier merge into the same files
    that are not among those of this one are removed.

    Args:
        things: results of a model that tells objects apart.
        stuff: results of a model of classes.
        output: folder of the files.
        options: thresholds of the merge.

    Raises:
        DataError: a folder or its ``medseg.json`` is missing, no picture is in both or none can be merged, or
            one of the folders was not written by such a model.
        ConfigError: a ``medseg.json`` is damaged.
        ExistingFileError: the output holds files of these names that medseg did not write.
    """
    sources = _sources(Path(things), Path(stuff))
    own, other = ({image_stem(p): p for p in list_images(one)} for one in (sources.things, sources.stuff))
    cases = sorted(own.keys() & other.keys())
    if not cases:
        raise DataError(
            f"{things} and {stuff}: no picture is in both folders",
            hint="Run medseg infer on the same images with both models.",
        )
    _check_kinds(sources, own, other)
    writer = PanopticWriter(Path(output) / "panoptic.json", sources.categories)
    errors: dict[str, DataError] = {}
    for case in cases:
        try:
            merged = _merge_case(sources, own[case], other[case], options)
            classes = {number: int(kind) for number, kind in enumerate(merged.classes, start=1)}
            writer.add(case, merged.segments, classes)
        except DataError as error:  # the others go on
            errors[case] = error
    if len(errors) == len(cases):
        raise errors[cases[0]]
    writer.finish()
    failed = _unmatched(sources, own, other) | {case: str(error) for case, error in errors.items()}
    return MergedPictures([case for case in cases if case not in errors], dict(sorted(failed.items())))


def _unmatched(sources: _Sources, things: Collection[str], stuff: Collection[str]) -> dict[str, str]:
    """Return picture in one folder only → reason."""
    first, second = set(things), set(stuff)
    lacking = dict.fromkeys(second - first, sources.things) | dict.fromkeys(first - second, sources.stuff)
    return {case: f"there is no picture of this name in {lacking[case]}" for case in sorted(lacking)}


def _check_kinds(sources: _Sources, things: Collection[str], stuff: Collection[str]) -> None:
    """Raise DataError if no picture of the first folder has a table of objects, or one of the second has."""
    tables = [object_table(sources.things, case) for case in sorted(things)]
    if not any(table.is_file() for table in tables):
        raise _wrong_kind(sources.things, "a model that tells objects apart", f"{tables[0]} does not exist")
    for case in sorted(stuff):
        table = object_table(sources.stuff, case)
        if table.is_file():
            raise _wrong_kind(sources.stuff, "a model of classes", f"{table} exists")


def _wrong_kind(folder: Path, kind: str, found: str) -> DataError:
    return DataError(
        f"{folder}: expected results of {kind}: {found}",
        hint="Give two folders that medseg infer has written: of things, then of stuff.",
        path=folder,
    )


def _sources(things: Path, stuff: Path) -> _Sources:
    labels: list[LabelSchema] = []
    for folder in (things, stuff):
        check_exists(folder)
        file = folder / "medseg.json"
        if not file.is_file():
            raise DataError(
                f"{file}: no such file",
                hint="Give two folders that medseg infer has written: of things, then of stuff.",
                path=file,
            )
        labels.append(read_labels(file))
    countable = _foreground(labels[0])
    names = [*countable, *(name for name in _foreground(labels[1]) if name not in countable)]
    categories = [PanopticCategory(i, name, name in countable) for i, name in enumerate(names, start=1)]
    return _Sources(things, stuff, tuple(categories))


def _foreground(labels: LabelSchema) -> list[str]:
    """Return the names of the labels but the background, which a schema may lack."""
    return list(labels.names)[labels.first_evaluated :]


def _merge_case(sources: _Sources, things: Path, stuff: Path, options: PanopticOptions) -> PanopticSegments:
    found = numbered_objects(read_scan(things))
    if found.numbers.ndim != 2:
        raise DataError(f"{things}: is a volume; COCO's panoptic files hold pictures", path=things)
    instances = _classified(sources, image_stem(things), found)
    try:
        values = as_label_map(align_to_grid(read_scan(stuff), found.grid))
    except GeometryError as error:
        raise GeometryError(f"{things} and {stuff}: {error}", path=stuff) from error
    labels = read_labels(sources.stuff / "medseg.json")
    kinds_of_stuff = np.zeros(values.shape, np.int64)
    for name in _foreground(labels):
        kinds_of_stuff[np.isin(values, labels.names[name])] = sources.ids[name]
    classes = tuple(one.id for one in sources.categories if not one.is_thing)
    return merge_panoptic(instances, kinds_of_stuff, classes, options)


def _classified(sources: _Sources, case: str, found: NumberedObjects) -> Instances:
    """Return the numbered objects of a case with the classes and scores of their table.

    Raises:
        DataError: the table lacks an object, or has one of an unknown class.
    """
    table = object_table(sources.things, case)
    kinds, scores = read_class_table(table) or {}, read_score_table(table) or {}
    present, ids = found.present, sources.ids
    wrong = [number for number in present if kinds.get(number) not in ids or number not in scores]
    if wrong:
        raise DataError(
            f"{table}: object {wrong[0]} of {case} has no row with a score and one of the classes {list(ids)}",
            hint="Segment the pictures again with medseg infer.",
            path=table,
        )
    return Instances.from_label_map(
        np.searchsorted([0, *present], found.numbers),
        np.array([ids[kinds[number]] for number in present], np.int64),
        np.array([scores[number] for number in present], np.float64),
    )
