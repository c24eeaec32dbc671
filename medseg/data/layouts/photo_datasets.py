"""Datasets of photographs: Pascal VOC, Cityscapes and ADE20K."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from medseg.data.cases import Case, Part, list_images, match
from medseg.data.io.readers import image_stem
from medseg.data.labels.names.tables import label_table
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.discovery import DatasetListing, LayoutOptions, check_unique_ids, partner_problem
from medseg.errors import DataError, Finding


class VocLayout:
    """``JPEGImages``, ``SegmentationClass`` and the lists in ``ImageSets/Segmentation``.

    They may be up to two folders below the root, as in ``VOCdevkit/VOC2012``. The value 255 is ignored.
    """

    name = "Pascal VOC"

    def holds(self, root: Path) -> bool:
        return _voc_root(root) is not None

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        base = _voc_root(root)
        assert base is not None
        lists = base / "ImageSets" / "Segmentation"
        cases: list[Case] = []
        problems: list[Finding] = []
        parts: dict[Part, str] = {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
        by_name: dict[str, list[Path]] = defaultdict(list)
        for picture in sorted((base / "JPEGImages").iterdir()):
            by_name[picture.stem].append(picture)
        for part, file in parts.items():
            for name in _lines(lists / file):
                images = by_name.get(name)
                label = base / "SegmentationClass" / f"{name}.png"
                if not images or (part != "test" and not label.is_file()):
                    message = f"{lists / file} lists {name}, whose image or label map does not exist"
                    problems.append(partner_problem(name, message, "download it, or remove the line"))
                else:
                    cases.append(Case(name, images[0], label if label.is_file() else None, part))
        check_unique_ids(cases)
        labels = label_table("voc").schema(ignore_value=255)
        return DatasetListing(self.name, sorted(cases, key=lambda c: c.id), problems, labels)


class CityscapesLayout:
    """``leftImg8bit/<part>/<city>/`` and ``gtFine/<part>/<city>/…_labelIds.png``.

    The labels are the 19 classes of the benchmark; all other ids are ignored. A city counts as a patient, so
    that it stays in one part.
    """

    name = "Cityscapes"

    def holds(self, root: Path) -> bool:
        return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        cases: list[Case] = []
        problems: list[Finding] = []
        parts: tuple[Part, ...] = ("train", "val", "test")
        for part in parts:
            for image in sorted((root / "leftImg8bit" / part).glob("*/*_leftImg8bit.png")):
                name = image.name.removesuffix("_leftImg8bit.png")
                label = root / "gtFine" / part / image.parent.name / f"{name}_gtFine_labelIds.png"
                if not label.is_file() and part != "test":
                    problems.append(
                        partner_problem(
                            name, f"{image} has no {label.name}", "download it, or remove the image"
                        )
                    )
                else:
                    cases.append(
                        Case(name, image, label if part != "test" else None, part, patient=image.parent.name)
                    )
        return DatasetListing(self.name, cases, problems, label_table("cityscapes").schema(others="ignore"))


class Ade20kLayout:
    """Scene parsing: ``images/{training,validation}`` and ``annotations/{training,validation}``.

    The values 1–150 are classes, with the names in ``objectInfo150.txt`` if this file exists; 0 is ignored.
    """

    name = "ADE20K scene parsing"

    def holds(self, root: Path) -> bool:
        return (root / "images" / "training").is_dir() and (root / "annotations" / "training").is_dir()

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        cases: list[Case] = []
        problems: list[Finding] = []
        parts: dict[str, Part] = {"training": "train", "validation": "val"}
        for folder, part in parts.items():
            matches, _ = match(
                list_images(root / "images" / folder), list_images(root / "annotations" / folder)
            )
            for image, found in matches.items():
                if len(found) == 1:
                    cases.append(Case(image_stem(image), image, found[0], part))
                else:
                    problems.append(
                        partner_problem(
                            image_stem(image),
                            f"{image} has {len(found)} annotations, expected 1",
                            "download the dataset again",
                        )
                    )
        return DatasetListing(self.name, cases, problems, _scene_labels(root / "objectInfo150.txt"))


def _voc_root(root: Path) -> Path | None:
    candidates = [root, *sorted(root.glob("VOC*")), *sorted(root.glob("*/VOC*"))]
    return next(
        (c for c in candidates if (c / "JPEGImages").is_dir() and (c / "SegmentationClass").is_dir()), None
    )


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _scene_labels(info: Path) -> LabelSchema:
    """Return the 150 classes, with the names in ``info`` if this file exists; 0 is ignored."""
    table = label_table("ade20k")
    if not info.is_file():
        return table.schema(ignore_value=0)
    names = _object_names(info)
    labels = LabelSchema(names={n: (value,) for value, n in names.items()}, ignore_value=0, background=False)
    colors = zip(table.values, table.colors, strict=True)
    return labels.with_colors({names[value]: color for value, color in colors if value in names})


def _object_names(path: Path) -> dict[int, str]:
    """Read value → first of its names from the table that is part of the dataset."""
    found: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        columns = re.split(r"\s*\t\s*", line.strip())
        if len(columns) < 5 or not columns[0].isdigit():
            raise DataError(
                f"{path}: expected lines of index, ratio, train, val and names, got {line!r}", path=path
            )
        found[int(columns[0])] = columns[-1].split(",")[0].strip()
    return found
