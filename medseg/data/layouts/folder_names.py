"""Usual names of the folders of images, of label maps, and of the parts of a split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medseg.data.cases import PARTS, Part
from medseg.data.layouts.discovery import LayoutOptions
from medseg.errors import DataError

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "scans", "scan", "imagesTr", "imagesTs")
LABEL_FOLDERS = (
    "labels", "label", "masks", "mask", "annotations", "annotation", "segmentations", "segmentation", "segs",
    "seg", "gt", "gts", "ground_truth", "groundtruth", "ground-truth", "manual", "targets", "labelsTr",
    "labelsTs", "1st_manual",
)  # fmt: skip
_PREFERRED = ("images", "labels", "imagesTr", "imagesTs", "labelsTr", "labelsTs", "1st_manual")
"""Names that win if several match: public datasets have other folders beside them (fields of view)."""
_PART_FOLDERS: dict[str, Part] = {
    "train": "train", "training": "train", "train_set": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A folder of images with its folder of label maps, and the part they are in.

    Attributes:
        images, labels: ``labels`` is None where there is none.
        part: by the folders' names; None where they name none.
    """

    images: Path
    labels: Path | None
    part: Part | None = None


def find_places(root: Path, choice: LayoutOptions) -> list[Place]:
    """Where images and label maps are in a folder: side by side, with a part in each
    (``images/train``, ``labels/train``) or in each part (``train/images``, ``train/labels``). Empty if nowhere.

    Raises: DataError if a folder chosen is not there, or several have names for the same.
    """
    images = _chosen(root, choice.image_dir, "image_dir", IMAGE_FOLDERS)
    if images is not None:
        labels = _chosen(root, choice.label_dir, "label_dir", LABEL_FOLDERS)
        parts = parts_in(images)
        if images.name == "imagesTr":
            return _train_and_test(root, images, labels)
        return [Place(f, _part_of(labels, p, f), p) for p, f in parts.items()] or [Place(images, labels)]
    places: list[Place] = []
    for part, folder in parts_in(root).items():
        images = _chosen(folder, choice.image_dir, "image_dir", IMAGE_FOLDERS, wanted=False)
        if images is not None:
            labels = _chosen(folder, choice.label_dir, "label_dir", LABEL_FOLDERS, wanted=False)
            places.append(Place(images, labels, part))
    if not places:
        named = f"{choice.image_dir}, which data.image_dir names" if choice.image_dir else "of images"
        raise DataError(f"{root}: holds no folder {named}; {listed(root)}. Name it with data.image_dir=FOLDER")
    return _of_one_kind(places)


def images_folder(root: Path) -> Path | None:
    """The folder of images directly in a folder, by its usual names; None where there is none, or several."""
    names = [name.lower() for name in IMAGE_FOLDERS]
    found = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name.lower() in names]
    exact = [p for p in found if p.name == "images"] or found
    return exact[0] if len(exact) == 1 else None


def has_images_folder(root: Path) -> bool:
    """Whether a folder, or one of the parts of a split in it, holds a folder with a usual name for images."""
    if not root.is_dir():
        return False
    names = [name.lower() for name in IMAGE_FOLDERS]
    folders = [root, *parts_in(root).values()]
    return any(p.name.lower() in names and p.is_dir() for folder in folders for p in folder.iterdir())


def _of_one_kind(places: list[Place]) -> list[Place]:
    """The places, with the label maps of the first one's kind: ``test/mask`` beside ``train/1st_manual`` holds
    something else.
    """
    first = next((place.labels.name for place in places if place.labels is not None), None)
    return [
        place if place.labels is None or place.labels.name == first else replace(place, labels=None)
        for place in places
    ]


def parts_in(folder: Path) -> dict[Part, Path]:
    """Return the folders of the parts of a split directly in a folder, in the order of the parts."""
    found: dict[Part, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        part = _PART_FOLDERS.get(path.name.lower())
        if part is not None and (part not in found or path.name in PARTS):
            found[part] = path
    return {part: found[part] for part in PARTS if part in found}


def listed(folder: Path) -> str:
    """Describe the content of a folder, for an error message."""
    entries = sorted(folder.iterdir())
    folders = [f"{p.name}/" for p in entries if p.is_dir() and not p.name.startswith(".")]
    files = [p.name for p in entries if p.is_file() and not p.name.startswith(".")]
    shown = [*folders[:10], *files[:4]]
    more = len(folders) + len(files) - len(shown)
    return f"found {', '.join(shown) or 'nothing'}" + (f" and {more} more" if more else "")


def _chosen(
    root: Path, stated: Path | None, setting: str, usual: tuple[str, ...], *, wanted: bool = True
) -> Path | None:
    """Return the folder that a setting names, or the one with a usual name; None if there is none."""
    if stated is not None:
        if (root / stated).is_dir():
            return root / stated
        if setting == "image_dir" or not wanted:
            return None  # it may lie in the folders of the parts
        raise DataError(f"{root}: holds no folder {stated}, which data.{setting} names; {listed(root)}")
    names = [name.lower() for name in usual]
    found = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name.lower() in names]
    preferred = sorted((p for p in found if p.name in _PREFERRED), key=lambda p: _PREFERRED.index(p.name))
    train = [p for p in found if p.name in ("imagesTr", "labelsTr")]
    found = train or preferred[:1] or found
    if len(found) > 1:
        shown = ", ".join(f"{p.name}/" for p in found)
        raise DataError(
            f"{root}: several folders may be meant: {shown}. Choose one, for example "
            f"data.{setting}={found[0].name}"
        )
    return found[0] if found else None


def _part_of(labels: Path | None, part: Part, images: Path) -> Path | None:
    """Return the folder of a part's label maps, with the name of its images' folder or another of the part."""
    if labels is None:
        return None
    same = labels / images.name
    return same if same.is_dir() else parts_in(labels).get(part)


def _train_and_test(root: Path, images: Path, labels: Path | None) -> list[Place]:
    """``imagesTr`` and ``imagesTs``, whose files are not numbered by channel."""
    test, test_labels = root / "imagesTs", root / "labelsTs"
    if not test.is_dir():
        return [Place(images, labels)]
    return [Place(images, labels, "train"), Place(test, test_labels if test_labels.is_dir() else None, "test")]
