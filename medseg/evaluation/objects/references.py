"""Numbered objects with their classes, from label maps or from a dataset."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.multichannel import read_image
from medseg.data.io.readers import read_scan
from medseg.data.labels.config import LabelConfig
from medseg.data.labels.label_plan import LabelDeclarations, plan_labels
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts import LooseLayout, PairsLayout, layout_of
from medseg.data.layouts.discovery import DEFAULT_LAYOUT
from medseg.data.scans import Scan, as_label_map
from medseg.errors import DataError
from medseg.geometry import Array, Grid


@dataclass(frozen=True)
class NumberedObjects:
    """The objects of one image.

    Attributes:
        numbers: (*S) non-negative integers, 0 for background.
        grid: of the image.
        classes: number → name of the class; None if classes are not known.
        ignored: (*S) bool, voxels that do not count; None: all count.
    """

    numbers: Array
    grid: Grid
    classes: dict[int, str] | None = None
    ignored: Array | None = None

    @property
    def present(self) -> list[int]:
        """Numbers of the objects, ascending."""
        return [int(number) for number in np.unique(self.numbers) if number]

    def names(self) -> list[str] | None:
        """Return the class of each object, in the order of their numbers; None if some are not known."""
        table = self.classes or {}
        names = [table.get(number) for number in self.present]
        return None if None in names else [str(name) for name in names]


def numbered_objects(scan: Scan, ignore_value: int | None = None) -> NumberedObjects:
    """Return the objects of a label map of numbers, with the classes in ``instances/CASE.csv`` beside it.

    Args:
        scan: the label map.
        ignore_value: value of voxels that do not count.

    Raises:
        DataError: a number is negative.
    """
    numbers = as_label_map(scan)
    ignored = None if ignore_value is None else numbers == ignore_value
    if ignored is not None:
        numbers = np.where(ignored, 0, numbers)
    if numbers.min(initial=0) < 0:
        raise DataError(
            f"{scan.path}: the smallest value is {numbers.min()}; expected 0 for background and a number for "
            "each object",
            hint=f"Leave out ignored voxels by --ignore {numbers.min()}, or set them to 0.",
            path=scan.path,
        )
    return NumberedObjects(numbers, scan.grid, None, ignored)


def object_table(folder: Path, case: str) -> Path:
    """Path of the table of the objects of a case, in the folder of its label map."""
    return folder / "instances" / f"{case}.csv"


def read_class_table(table: Path) -> dict[int, str] | None:
    """Read number → class from a table of objects, as ``medseg infer`` writes it; None without a table."""
    if not table.is_file():
        return None
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {int(row["instance"]): row["class"] for row in rows if row.get("class")}


def read_score_table(table: Path) -> dict[int, float] | None:
    """Read number → score from a table of objects; None without a table."""
    if not table.is_file():
        return None
    with table.open(encoding="utf-8", newline="") as stream:
        return {int(row["instance"]): float(row["score"]) for row in csv.DictReader(stream)}


@dataclass(frozen=True)
class FileReferences:
    """References in label maps.

    Attributes:
        files: case → label map.
        ignore_value: value of voxels that do not count.
    """

    files: dict[str, Path]
    ignore_value: int | None = None

    def only(self, case: str) -> FileReferences:
        """Return the reference of one case."""
        return replace(self, files={case: self.files[case]})

    def files_of(self, case: str) -> tuple[Path, ...]:
        """Return the files of the reference of a case."""
        return (self.files[case],)

    def read(self, case: str) -> NumberedObjects:
        """Return the objects of a case."""
        path = self.files[case]
        found = numbered_objects(read_scan(path), self.ignore_value)
        classes = read_class_table(object_table(path.parent, case))
        return NumberedObjects(found.numbers, found.grid, classes, found.ignored)


@dataclass(frozen=True)
class DatasetReferences:
    """References of a dataset, whose layout says how objects and classes are stored.

    Attributes:
        cases: case → its files.
        reader: how labels are read.
        schema: meaning of their values; None: not known.
    """

    cases: dict[str, Case]
    reader: LabelReader
    schema: LabelSchema | None

    @classmethod
    def of(cls, root: Path, ignore_value: int | None = None) -> DatasetReferences | None:
        """Return the references of a dataset; None for folders of label maps and single files."""
        layout = layout_of(root) if root.is_dir() or root.suffix.lower() in (".csv", ".json") else None
        if layout is None or isinstance(layout, LooseLayout | PairsLayout):
            return None
        listing = layout.find(root, DEFAULT_LAYOUT).checked()
        declared = LabelDeclarations(
            LabelConfig(ignore_value=ignore_value), layout=listing.labels, instances="keep"
        )
        plan = plan_labels(listing.cases, declared, folder=root)
        return cls({case.id: case for case in plan.cases if case.label_files}, plan.reader, plan.schema)

    def only(self, case: str) -> DatasetReferences:
        """Return the reference of one case."""
        return replace(self, cases={case: self.cases[case]})

    def files_of(self, case: str) -> tuple[Path, ...]:
        """Return the files of the reference of a case; ``FILE#ID`` where one file has several."""
        return self.cases[case].label_files

    def read(self, case: str) -> NumberedObjects:
        """Return the objects of a case."""
        scan = read_image(self.cases[case])
        found, schema = self.reader.read(self.cases[case], scan), self.schema
        assert found is not None
        assert found.objects is not None
        assert schema is not None
        names = {value: name for name, values in schema.names.items() for value in values}
        flat = found.objects.reshape(-1)
        numbers, first = np.unique(flat, return_index=True)
        values = found.values.reshape(-1)[first]
        classes = {int(n): names[int(v)] for n, v in zip(numbers, values, strict=True) if n}
        ignored = None if schema.ignore_value is None else found.values == schema.ignore_value
        return NumberedObjects(found.objects, scan.grid, classes, ignored)
