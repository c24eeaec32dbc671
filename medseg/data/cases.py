"""Finding cases: which image belongs to which label map, and in which part of the split it stands."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg.data.readers import is_image_file, stem_of
from medseg.errors import DataError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
_SEPARATORS = "_-. "


@dataclass(frozen=True)
class Case:
    """One image and its label map.

    Attributes:
        id: the image's name without suffix; unique in a dataset.
        image: the image's file.
        label: the label map's file, if there is one.
        part: the folder (``train``, ``val``, ``test``) it was found in, if any.
    """

    id: str
    image: Path
    label: Path | None = None
    part: Part | None = None


def find_cases(root: Path, *, label_suffix: str | None = None) -> list[Case]:
    """Find the cases of a folder that holds ``images/`` and ``labels/``, sorted by id.

    Both may hold ``train``, ``val`` and ``test`` folders. A label map is named as its image, or as its
    image plus a suffix that begins with one of ``_-.`` (``case_mask.png``); ``label_suffix`` fixes it. A
    ``test`` folder may have no label maps at all.
    Raises: DataError if a folder is missing or empty, or a file has no partner or more than one.
    """
    parts = list_parts(root)
    _refuse_duplicates([image for _, images, _ in parts for image in images])
    cases: list[Case] = []
    for part, images, labels in parts:
        if part == "test" and not (Path(root) / "labels" / part).is_dir():
            cases += [Case(stem_of(image), image, None, part) for image in images]
        else:
            pairs = pair(images, labels, label_suffix=label_suffix)
            cases += [Case(stem_of(image), image, label, part) for image, label in pairs]
    if not cases:
        raise DataError(f"{Path(root) / 'images'}: no image files")
    return sorted(cases, key=lambda case: case.id)


def list_parts(root: Path) -> list[tuple[Part | None, list[Path], list[Path]]]:
    """The image files and label files of each part of a folder, or of the whole (part None).

    Raises: DataError if it has not both ``images/`` and ``labels/``.
    """
    images, labels = Path(root) / "images", Path(root) / "labels"
    if not images.is_dir() or not labels.is_dir():
        found = sorted(p.name for p in Path(root).iterdir())[:12] if Path(root).is_dir() else "no such folder"
        raise DataError(f"{root}: expected the folders images/ and labels/ in it, found: {found}")
    parts: list[Part | None] = [p for p in PARTS if (images / p).is_dir()]
    return [
        (part, list_images(images / (part or "")), list_images(labels / (part or "")))
        for part in parts or [None]
    ]


def list_images(folder: Path) -> list[Path]:
    """The image files and DICOM folders directly in a folder, sorted by name; none if there is no such."""
    if not Path(folder).is_dir():
        return []
    return sorted(p for p in Path(folder).iterdir() if is_image_file(p))


def match(
    images: list[Path], labels: list[Path], *, label_suffix: str | None = None
) -> tuple[dict[Path, list[Path]], list[Path]]:
    """The label maps that go with each image by name, and those that go with none."""
    by_stem = {stem_of(image): image for image in images}
    matches: dict[Path, list[Path]] = {image: [] for image in images}
    orphans: list[Path] = []
    for label in labels:
        stem = _image_stem(stem_of(label), by_stem, label_suffix)
        if stem is not None:
            matches[by_stem[stem]].append(label)
        elif label_suffix is None:
            orphans.append(label)
    return matches, orphans


def pair(images: list[Path], labels: list[Path], *, label_suffix: str | None = None) -> list[tuple[Path, Path]]:
    """Each image with its one label map.

    Raises: DataError listing every image without a label map, every label map without an image, and every
    image with more than one.
    """
    matches, orphans = match(images, labels, label_suffix=label_suffix)
    problems = [f"image {image} has no label map" for image in images if not matches[image]]
    problems += [f"label map {orphan} has no image" for orphan in orphans]
    problems += [
        f"image {i} has {len(found)} label maps: {', '.join(p.name for p in found)} "
        "(choose one with data.label_suffix)"
        for i, found in matches.items()
        if len(found) > 1
    ]
    if problems:
        raise DataError(join_problems("files without exactly one partner", problems))
    return [(image, matches[image][0]) for image in images]


def join_problems(title: str, problems: list[str], *, most: int = 20) -> str:
    """One message of many problems, the first ``most`` of them spelled out."""
    lines = problems[:most]
    if len(problems) > most:
        lines.append(f"… and {len(problems) - most} more")
    return f"{title} ({len(problems)}):\n  " + "\n  ".join(lines)


def _image_stem(stem: str, by_stem: dict[str, Path], label_suffix: str | None) -> str | None:
    if label_suffix is not None:
        base = stem.removesuffix(label_suffix) if stem.endswith(label_suffix) else None
        return base if base in by_stem else None
    if stem in by_stem:
        return stem
    ends = [i for i, character in enumerate(stem) if character in _SEPARATORS]
    return next((stem[:end] for end in reversed(ends) if stem[:end] in by_stem), None)


def _refuse_duplicates(images: list[Path]) -> None:
    by_id: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        by_id[stem_of(image)].append(image)
    problems = [f"case {name}: {', '.join(map(str, same))}" for name, same in by_id.items() if len(same) > 1]
    if problems:
        raise DataError(join_problems("images that share a name", problems))
