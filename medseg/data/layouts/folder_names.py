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
"""Names with priority if several match: public datasets have other folders beside them (fields of view)."""
_PART_FOLDERS: dict[str, Part] = {
    "train": "train", "training": "train", "train_set": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class FolderPair:
    """A folder of images with its folder of label maps.

    Attributes:
        images: folder of the images.
        labels: folder of the label maps; None if there is none.
        part: part of the split that the folders are named after; None if they are not named after one.
    """

    images: Path
    labels: Path | None
    part: Part | None = None


def find_folder_pairs(root: Path, choice: LayoutOptions) -> list[FolderPair]:
    """Find the folders of images and label maps in a dataset.

    They are side by side, with the parts of the split below them (``images/train``, ``labels/train``) or above
    them (``train/images``, ``train/labels``), or without parts.

    Raises:
        DataError: there is no folder of images, a configured folder does not exist, or several folders have
            usual names for the same content.
    """
    images = _chosen(root, choice.image_dir, "image_dir", IMAGE_FOLDERS)
    if images is not None:
        labels = _chosen(root, choice.label_dir, "label_dir", LABEL_FOLDERS)
        parts = parts_in(images)
        if images.name == "imagesTr":
            return _train_and_test(root, images, labels)
        return [FolderPair(f, _part_of(labels, p, f), p) for p, f in parts.items()] or [
            FolderPair(images, labels)
        ]
    pairs: list[FolderPair] = []
    for part, folder in parts_in(root).items():
        images = _chosen(folder, choice.image_dir, "image_dir", IMAGE_FOLDERS, required=False)
        if images is not None:
            labels = _chosen(folder, choice.label_dir, "label_dir", LABEL_FOLDERS, required=False)
            pairs.append(FolderPair(images, labels, part))
    if not pairs:
        wanted = f"{choice.image_dir} (data.image_dir)" if choice.image_dir else "of images"
        raise DataError(
            f"{root}: contains no folder {wanted}; {describe_content(root)}",
            hint="Set it with data.image_dir=FOLDER.",
            path=root,
        )
    return _with_matching_labels(pairs)


def find_images_folder(root: Path) -> Path | None:
    """Find the folder of images directly in a folder by its usual names; None if there is none or several."""
    names = [name.lower() for name in IMAGE_FOLDERS]
    found = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name.lower() in names]
    exact = [p for p in found if p.name == "images"] or found
    return exact[0] if len(exact) == 1 else None


def has_images_folder(root: Path) -> bool:
    """Return whether a folder, or a part of a split in it, contains a folder with a usual name for images."""
    if not root.is_dir():
        return False
    names = [name.lower() for name in IMAGE_FOLDERS]
    folders = [root, *parts_in(root).values()]
    return any(p.name.lower() in names and p.is_dir() for folder in folders for p in folder.iterdir())


def _with_matching_labels(pairs: list[FolderPair]) -> list[FolderPair]:
    """Drop folders of label maps with another name than the first: ``test/mask`` beside ``train/1st_manual``
    contains something else.
    """
    first = next((folder_pair.labels.name for folder_pair in pairs if folder_pair.labels is not None), None)
    return [
        folder_pair
        if folder_pair.labels is None or folder_pair.labels.name == first
        else replace(folder_pair, labels=None)
        for folder_pair in pairs
    ]


def parts_in(folder: Path) -> dict[Part, Path]:
    """Return the folders of the parts of a split directly in a folder, in the order of the parts."""
    found: dict[Part, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        part = _PART_FOLDERS.get(path.name.lower())
        if part is not None and (part not in found or path.name in PARTS):
            found[part] = path
    return {part: found[part] for part in PARTS if part in found}


def describe_content(folder: Path) -> str:
    """Describe the content of a folder, for an error message."""
    entries = sorted(folder.iterdir())
    folders = [f"{p.name}/" for p in entries if p.is_dir() and not p.name.startswith(".")]
    files = [p.name for p in entries if p.is_file() and not p.name.startswith(".")]
    shown = [*folders[:10], *files[:4]]
    more = len(folders) + len(files) - len(shown)
    return f"found {', '.join(shown) or 'nothing'}" + (f" and {more} more" if more else "")


def _chosen(
    root: Path, configured: Path | None, setting: str, usual: tuple[str, ...], *, required: bool = True
) -> Path | None:
    """Return the configured folder, or the one with a usual name; None if there is none."""
    if configured is not None:
        if (root / configured).is_dir():
            return root / configured
        if setting == "image_dir" or not required:
            return None  # it may be in the folders of the parts
        raise DataError(
            f"{root}: contains no folder {configured} (data.{setting}); {describe_content(root)}", path=root
        )
    names = [name.lower() for name in usual]
    found = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name.lower() in names]
    preferred = sorted((p for p in found if p.name in _PREFERRED), key=lambda p: _PREFERRED.index(p.name))
    train = [p for p in found if p.name in ("imagesTr", "labelsTr")]
    found = train or preferred[:1] or found
    if len(found) > 1:
        shown = ", ".join(f"{p.name}/" for p in found)
        raise DataError(
            f"{root}: several folders have usual names for the same content: {shown}",
            hint=f"Choose one, for example data.{setting}={found[0].name}.",
            path=root,
        )
    return found[0] if found else None


def _part_of(labels: Path | None, part: Part, images: Path) -> Path | None:
    """Return the folder of the label maps of a part: named as that of its images, or by another usual name."""
    if labels is None:
        return None
    same = labels / images.name
    return same if same.is_dir() else parts_in(labels).get(part)


def _train_and_test(root: Path, images: Path, labels: Path | None) -> list[FolderPair]:
    """Return ``imagesTr`` and ``imagesTs`` of a dataset whose files are not numbered by channel."""
    test, test_labels = root / "imagesTs", root / "labelsTs"
    if not test.is_dir():
        return [FolderPair(images, labels)]
    return [
        FolderPair(images, labels, "train"),
        FolderPair(test, test_labels if test_labels.is_dir() else None, "test"),
    ]
