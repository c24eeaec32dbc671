"""``images/`` and ``labels/``, optionally with ``train``, ``val`` and ``test`` in both; loose images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from medseg.data.cases import PARTS, Case, Part, list_images, match, match_numbered
from medseg.data.io.dicom.series import is_dicom_folder
from medseg.data.io.geojson import SUFFIX, read_geojson_names
from medseg.data.io.numpy_reader import archive_names
from medseg.data.io.readers import image_stem, is_image_file
from medseg.data.labels.objects.files import is_geojson
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.discovery import (
    DEFAULT_LAYOUT,
    UNLABELED,
    DatasetListing,
    LayoutOptions,
    check_unique_ids,
    partner_problem,
)
from medseg.data.layouts.folder_names import (
    FolderPair,
    describe_content,
    find_folder_pairs,
    has_images_folder,
    parts_in,
)
from medseg.data.layouts.manifest import describe_other_tables
from medseg.errors import DataError, Finding

_CHANNEL = re.compile(r"(.+)_(\d{4})")


class FoldersLayout:
    """``images/`` and ``labels/``, or other usual names (``imgs``, ``scans``; ``masks``, ``gt``…).

    Both may hold the parts of a split (``train``, ``val``, ``test``), or lie in folders of these. An image is a
    file, a folder of DICOM slices or of pictures that make a stack, or several files ``<case>_0000``,
    ``<case>_0001``… of one channel each. A label map is a file named as its image, or as its image plus a
    suffix; GeoJSON of that name, as QuPath exports it; or a folder of that name with one file for each label,
    or for each object.
    """

    name = "images/ and labels/"

    def holds(self, root: Path) -> bool:
        return has_images_folder(root)

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        pairs = find_folder_pairs(root, choice)
        unlabeled = all(folder_pair.labels is None for folder_pair in pairs)
        cases: list[Case] = []
        problems: list[Finding] = []
        for folder_pair in pairs:
            if folder_pair.part is None and is_dicom_folder(folder_pair.images):
                return _one_series(root, folder_pair, choice)
            found, faults = _paired(folder_pair, choice, unlabeled=unlabeled)
            cases += found
            problems += faults
        images = pairs[0].images
        if not cases and not problems:
            raise DataError(f"{images}: no image files")
        check_unique_ids(cases)
        if unlabeled:
            problems.append(_no_label_folder(root, images))
        if images.parent != root and images in parts_in(images.parent).values():
            problems += _unassigned_images(images.parent)
        return DatasetListing(self.name, sorted(cases, key=lambda c: c.id), problems, geojson_labels(cases))


class PairsLayout:
    """Images with their label maps beside them, in one folder: ``IMG.png`` and ``IMG_mask.png``.

    A label map has its image's name and one of the usual words (``_mask``, ``_seg``, ``_label``, ``_gt``…), or
    ``data.label_suffix``. The folder may hold folders of the parts of a split.
    """

    name = "images with label maps beside them"

    def holds(self, root: Path, choice: LayoutOptions = DEFAULT_LAYOUT) -> bool:
        folders = [root, *parts_in(root).values()] if root.is_dir() else []
        return any(_split_pairs(folder, choice)[1] for folder in folders)

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        here = bool(_split_pairs(root, choice)[1])
        parts: dict[Part | None, Path] = {None: root} if here else {**parts_in(root)}
        cases: list[Case] = []
        problems: list[Finding] = []
        for part, folder in parts.items():
            images, labels = _split_pairs(folder, choice)
            found, faults = pair(channel_groups(images, labels), labels, choice.label_suffix, part)
            cases += found
            problems += faults if labels or part != "test" else []
        check_unique_ids(cases)
        return DatasetListing(self.name, sorted(cases, key=lambda c: c.id), problems)


class LooseLayout:
    """Images without label maps: files, or a DICOM series."""

    name = "images without labels"

    def holds(self, root: Path) -> bool:
        return root.is_dir() and (is_dicom_folder(root) or bool(list_images(root)))

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        entries = [root] if is_dicom_folder(root) else list_images(root)
        _check_archives(root, entries)
        cases = [Case(image_stem(image), image) for image in entries]
        check_unique_ids(cases)
        found = f"expected the folders images/ and labels/ in it, found {len(cases)} images"
        return DatasetListing(
            self.name,
            cases,
            [
                _unlabeled(
                    root, f"{root}: {found} ({describe_content(root)}). {SETTINGS}{describe_other_tables(root)}"
                )
            ],
        )


def _check_archives(root: Path, entries: list[Path]) -> None:
    """Raises: DataError if all images are ``.npz`` archives of several arrays, none of which is selected."""
    if not entries or any(path.suffix.lower() != ".npz" for path in entries):
        return
    names = archive_names(entries[0])
    if len(names) < 2:
        return
    example, image = entries[0].name, "image" if "image" in names else names[0]
    label = "label" if "label" in names else next(name for name in names if name != image)
    raise DataError(
        f"{root}: expected a dataset in a supported layout, found {len(entries)} .npz archives of several "
        f"arrays ({example}: {', '.join(names)}); which of them are image and label map is not known",
        hint=f"Write a manifest of the cases, a CSV file with the columns image,label and lines such as "
        f"{example}#{image},{example}#{label}, and give it instead of the folder. "
        "Arrays must be 3D: write 2D ones as pictures. medseg evaluate --interactive reads such archives "
        "as they are.",
        path=root,
    )


_PAIR_WORDS = ("mask", "masks", "seg", "segmentation", "label", "labels", "gt", "groundtruth", "annotation")
_PAIR_SUFFIXES = tuple(f"{mark}{word}" for word in _PAIR_WORDS for mark in "_-. ")
SETTINGS = (
    "Set the folders of images and of label maps with data.image_dir=FOLDER and data.label_dir=FOLDER; if "
    "label maps are beside their images, set the end of their names with data.label_suffix=_SUFFIX"
)


def _split_pairs(folder: Path, choice: LayoutOptions) -> tuple[list[Path], list[Path]]:
    """Return the images of a folder and the label maps beside them."""
    files = list_images(folder)
    stated = choice.label_suffix
    suffixes = _PAIR_SUFFIXES if stated is None else (stated,) if isinstance(stated, str) else stated
    suffixes = tuple(suffix for suffix in suffixes if suffix)
    stems = {image_stem(path).lower() for path in files}
    labels: list[Path] = []
    for path in files:
        stem = image_stem(path).lower()
        bases = [stem.removesuffix(s.lower()) for s in suffixes if stem.endswith(s.lower())]
        if any(base in stems or f"{base}_image" in stems for base in bases):
            labels.append(path)
    chosen = set(labels)
    return [path for path in files if path not in chosen], labels


def _paired(
    folder_pair: FolderPair, choice: LayoutOptions, *, unlabeled: bool
) -> tuple[list[Case], list[Finding]]:
    labels = [] if folder_pair.labels is None else _label_entries(folder_pair.labels)
    found = channel_groups(_entries(folder_pair.images), labels)
    if folder_pair.labels is None and (unlabeled or folder_pair.part == "test"):
        return [_case(name, files, [], folder_pair.part) for name, files in found.items()], []
    return pair(found, labels, choice.label_suffix, folder_pair.part)


def _no_label_folder(root: Path, images: Path) -> Finding:
    message = f"{root}: has no folder labels/ (or similar) beside {images.name}/; {describe_content(root)}"
    hint = "name it with data.label_dir=FOLDER, or add the label maps; medseg infer needs no label maps"
    return partner_problem("labels", message, hint)


def _unassigned_images(images: Path) -> list[Finding]:
    """Return the finding that files beside the folders of the parts are in no part."""
    loose = list_images(images)
    if not loose:
        return []
    message = f"{images}: {len(loose)} images are in no part of the split, such as {loose[0].name}"
    return [partner_problem(images.name, message, "move them into one of the folders of the parts")]


def _one_series(root: Path, folder_pair: FolderPair, choice: LayoutOptions) -> DatasetListing:
    """List a folder of images that is itself a DICOM series; its label map may have any name."""
    labels = [] if folder_pair.labels is None else _entries(folder_pair.labels)
    chosen = [p for p in labels if image_stem(p).endswith(choice.label_suffix or ("",))]
    case = _case(root.resolve().name, (folder_pair.images,), chosen, None)
    if not labels:
        return DatasetListing(FoldersLayout.name, [case], [_unlabeled(root, f"{root}: has no label maps")])
    faults = [] if len(chosen) == 1 else list(_matching_problems({root.resolve(): chosen}, []))
    return DatasetListing(FoldersLayout.name, [case], faults)


def _unlabeled(root: Path, message: str) -> Finding:
    hint = "training needs label maps in labels/; medseg infer does not"
    return Finding("note", UNLABELED, root.name, message, hint)


def pair(
    images: dict[str, tuple[Path, ...]],
    labels: list[Path],
    suffix: str | tuple[str, ...] | None,
    part: Part | None = None,
) -> tuple[list[Case], list[Finding]]:
    """Match images (by name) with their label maps; those without exactly one are findings."""
    shown = {name: _named(files[0], name) for name, files in images.items()}
    matches, orphans = match(list(shown.values()), labels, label_suffix=suffix)
    if suffix is None and not any(matches.values()):
        matches, orphans = match_numbered(list(shown.values()), labels) or (matches, orphans)
    by_shown = {path: name for name, path in shown.items()}
    cases = [_case(by_shown[path], images[by_shown[path]], found, part) for path, found in matches.items()]
    return cases, list(_matching_problems(matches, orphans))


def _named(path: Path, name: str) -> Path:
    """Return a path with the case's name, without its channel."""
    stem = image_stem(path)
    return path if stem == name else path.with_name(name + path.name[len(stem) :])


def _case(name: str, files: tuple[Path, ...], labels: list[Path], part: Part | None) -> Case:
    label = labels[0] if len(labels) == 1 else None
    if (
        label is not None
        and label.is_dir()
        and not is_dicom_folder(label)
        and not _is_stack_like(label, files[0])
    ):
        masks = {image_stem(mask): mask for mask in list_images(label)}
        return Case(name, files[0], None, part, files[1:], masks)
    return Case(name, files[0], label, part, files[1:])


def _matching_problems(matches: dict[Path, list[Path]], orphans: list[Path]) -> Iterable[Finding]:
    for image, found in matches.items():
        if not found:
            yield partner_problem(
                image_stem(image), f"image {image.name} has no label map",
                "add one of the same name to labels/ (a suffix such as _mask is fine), or remove the image",
            )  # fmt: skip
        elif len(found) > 1:
            names = ", ".join(p.name for p in found)
            yield partner_problem(
                image_stem(image), f"image {image.name} has {len(found)} label maps: {names}",
                "choose one with data.label_suffix",
            )  # fmt: skip
    for orphan in orphans:
        yield partner_problem(
            image_stem(orphan), f"label map {orphan.name} has no image",
            "add the image of the same name, or take the label map away",
        )  # fmt: skip


def _entries(folder: Path) -> list[Path]:
    """List files, DICOM series, stacks of pictures, and folders with one file per label."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if is_image_file(p) or _holds_pictures(p))


def _label_entries(folder: Path) -> list[Path]:
    """List label files as :func:`_entries`, and GeoJSON."""
    return sorted([*_entries(folder), *folder.glob(f"*{SUFFIX}")])


def geojson_labels(cases: list[Case]) -> LabelSchema | None:
    """Return the labels of cases that are drawn as GeoJSON: the classifications; None if there are none."""
    files = [case.label for case in cases if is_geojson(case.label)]
    names = sorted({name for path in files if path is not None for name in read_geojson_names(path)})
    if not names:
        return None
    table = {"background": (0,)} | {name: (value,) for value, name in enumerate(names, start=1)}
    return LabelSchema(names=table)


def _holds_pictures(path: Path) -> bool:
    return path.is_dir() and path.name not in PARTS and any(is_image_file(p) for p in path.iterdir())


def _is_stack_like(label: Path, image: Path) -> bool:
    """Return whether a folder of label pictures has one for each picture in a folder of images."""
    return image.is_dir() and not is_dicom_folder(image) and len(list_images(label)) == len(list_images(image))


def channel_groups(images: list[Path], labels: list[Path]) -> dict[str, tuple[Path, ...]]:
    """Group images by case; ``<case>_0000``… are channels if all images and no labels are named like this.

    Raises:
        DataError: cases lack a channel; the message names them.
    """
    stems = [image_stem(image) for image in images]
    found = [_CHANNEL.fullmatch(stem) for stem in stems]
    taken = {image_stem(label) for label in labels}
    named = [m for m in found if m is not None]
    if not images or len(named) < len(images) or taken & set(stems) or all(m[2] != "0000" for m in named):
        cases = [Case(stem, image) for stem, image in zip(stems, images, strict=True)]
        check_unique_ids(cases)
        return {stem: (image,) for stem, image in zip(stems, images, strict=True)}
    return group_channels(images)


def group_channels(images: list[Path]) -> dict[str, tuple[Path, ...]]:
    """Group files ``<case>_<four digits>`` by case, in the order of their channels.

    Raises:
        DataError: a file has another kind of name, or cases lack a channel.
    """
    groups: dict[str, dict[str, Path]] = {}
    for image in images:
        found = _CHANNEL.fullmatch(image_stem(image))
        if found is None:
            raise DataError(f"{image}: expected a name that ends with the channel, such as CASE_0000")
        groups.setdefault(found[1], {})[found[2]] = image
    channels = sorted({channel for files in groups.values() for channel in files})
    for case, files in groups.items():
        lacking = [channel for channel in channels if channel not in files]
        if lacking:
            raise DataError(
                f"case {case}: lacks the channels {lacking}, which other cases have; every case needs the "
                f"same {len(channels)} channels in {images[0].parent}"
            )
    return {case: tuple(files[channel] for channel in channels) for case, files in groups.items()}
