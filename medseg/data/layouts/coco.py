"""COCO: instances in JSON files, and panoptic segmentations, also as Cityscapes writes them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from medseg.data.cases import Case, Part
from medseg.data.io.coco import read_coco_index
from medseg.data.io.coco_panoptic import read_panoptic_index
from medseg.data.labels.objects.files import panoptic_schema
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.discovery import DatasetListing, LayoutOptions, check_unique_ids, partner_problem
from medseg.errors import DataError, Finding

_PARTS: dict[str, Part] = {"train": "train", "val": "val", "valid": "val", "test": "test"}


class CocoLayout:
    """``annotations/*.json`` beside folders of images, or ``<part>/_annotations.coco.json`` in each part.

    Of several files in ``annotations``, those named ``instances…`` are read. A label map is drawn from polygons
    and run lengths, the largest instance first; its values are the ids of the categories.
    """

    name = "COCO instances"

    def holds(self, root: Path) -> bool:
        return bool(_files(root))

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        cases: list[Case] = []
        problems: list[Finding] = []
        names: dict[int, str] = {}
        for file in _files(root):
            index = read_coco_index(file)
            names |= _unique_names(index.categories, names, file)
            part = _part(file)
            pictures = _Pictures(root, file)
            for number, entry in index.images.items():
                image = pictures.find(entry)
                if image is None:
                    message = f"{file} lists {entry}, which does not exist"
                    problems.append(partner_problem(entry, message, "put the pictures beside the annotations"))
                else:
                    cases.append(Case(image.stem, image, Path(f"{file}#{number}"), part))
        check_unique_ids(cases)
        if len({case.part for case in cases}) == 1:
            cases = [Case(c.id, c.image, c.label) for c in cases]
        if not names:
            raise DataError(f"{_files(root)[0]}: lists no categories", path=_files(root)[0])
        table = {"background": (0,)} | {name: (value,) for value, name in sorted(names.items())}
        return DatasetListing(self.name, sorted(cases, key=lambda c: c.id), problems, LabelSchema(names=table))


class CocoPanopticLayout:
    """``annotations/panoptic_*.json``, or ``gtFine/cityscapes_panoptic_*.json``.

    Labels are the categories of all pixels; with ``data.instances``, the objects of those that are countable.
    Void is ignored. The pictures are beside the annotations, or in ``leftImg8bit/<part>/<city>/``; a city is a
    patient, so that it stays in one part. Where there are files ``instances_*.json``, too, those are read.
    """

    name = "COCO panoptic"

    def holds(self, root: Path) -> bool:
        return bool(_panoptic_files(root))

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        cases: list[Case] = []
        problems: list[Finding] = []
        cities = {path.name: path for path in sorted(root.glob("leftImg8bit/*/*/*_leftImg8bit.png"))}
        for file in _panoptic_files(root):
            part, pictures = _part(file), _Pictures(root, file)
            for name, entry in read_panoptic_index(file).entries.items():
                city = cities.get(f"{name}_leftImg8bit.png")
                listed = entry.picture or f"{name}.png"
                image = city or pictures.find(listed)
                if image is None:
                    message = f"{file} lists {listed}, which does not exist"
                    problems.append(partner_problem(name, message, "put the pictures beside the annotations"))
                    continue
                patient = None if city is None else city.parent.name
                cases.append(Case(name, image, Path(f"{file}#{entry.file.name}"), part, patient=patient))
        check_unique_ids(cases)
        if len({case.part for case in cases}) == 1:
            cases = [Case(c.id, c.image, c.label, patient=c.patient) for c in cases]
        labels = panoptic_schema(_panoptic_files(root))
        return DatasetListing(self.name, sorted(cases, key=lambda c: c.id), problems, labels)


def _panoptic_files(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    if any(root.glob("annotations/instances*.json")):
        return []
    return sorted(root.glob("annotations/panoptic*.json")) or sorted(
        root.glob("gtFine/cityscapes_panoptic_*.json")
    )


def _files(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    single = sorted(root.glob("_annotations.coco.json")) + sorted(root.glob("*/_annotations.coco.json"))
    found = sorted((root / "annotations").glob("*.json")) or sorted(root.glob("annotations*.json"))
    instances = [p for p in found if p.name.startswith("instances")]
    return single or instances or found


def _part(file: Path) -> Part | None:
    """Return the part of a split that the name of an annotation file, or of its folder, contains."""
    named = f"{file.parent.name}/{file.stem}".lower()
    return next((part for word, part in _PARTS.items() if word in named), None)


def _unique_names(categories: dict[int, str], known: dict[int, str], file: Path) -> dict[int, str]:
    """Return the names of categories; those that appear twice, and ``background``, get their id as a suffix.

    Raises:
        DataError: another file has other names for the same ids.
    """
    for value, name in categories.items():
        if known.get(value, name) != name:
            raise DataError(
                f"{file}: category {value} is {name!r} here and {known[value]!r} in another file", path=file
            )
    doubles = [name for name, n in Counter(categories.values()).items() if n > 1]
    return {v: f"{n}_{v}" if n in doubles or n == "background" else n for v, n in categories.items()}


class _Pictures:
    """Finds the pictures of an annotation file, beside it or in a folder of the root.

    Each folder is listed once.
    """

    def __init__(self, root: Path, file: Path) -> None:
        self._folders = [file.parent, root, root / "images", *_folders_in(root), *_folders_in(root / "images")]
        self._by_name: dict[str, Path] = {}
        for folder in reversed(self._folders):  # the first folder with a name has priority
            if folder.is_dir():
                with os.scandir(folder) as entries:
                    self._by_name |= {e.name: folder / e.name for e in entries if e.is_file()}

    def find(self, name: str) -> Path | None:
        """Return the path of a picture; ``name`` may contain folders. None if it does not exist."""
        if "/" not in name and "\\" not in name:
            return self._by_name.get(name)
        return next((folder / name for folder in self._folders if (folder / name).is_file()), None)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
