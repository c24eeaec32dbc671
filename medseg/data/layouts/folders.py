"""``images/`` and ``labels/``, perhaps with ``train``, ``val`` and ``test`` in both; and loose images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from medseg.data.cases import PARTS, Case, Part, list_images, match
from medseg.data.dicom import holds_dicom
from medseg.data.layouts.found import Choice, Found, Problem, refuse_doubles
from medseg.data.readers import is_image_file, stem_of
from medseg.errors import DataError

_CHANNEL = re.compile(r"(.+)_(\d{4})")


class FoldersLayout:
    """``images/`` and ``labels/``.

    An image is a file, a folder of DICOM slices or of pictures that make a stack, or several files
    ``<case>_0000``, ``<case>_0001``… of one channel each. A label map is a file named as its image, or as
    its image plus a suffix; or a folder of that name with one file for each label.
    """

    name = "images/ and labels/"

    def holds(self, root: Path) -> bool:
        return (root / "images").is_dir()

    def find(self, root: Path, choice: Choice) -> Found:
        images, labels = root / "images", root / "labels"
        if holds_dicom(images):
            return _one_series(root, choice)
        parts: list[Part | None] = [p for p in PARTS if (images / p).is_dir()]
        cases: list[Case] = []
        problems: list[Problem] = []
        for part in parts or [None]:
            below = part or ""
            unlabelled = not (labels / below).is_dir() and (part == "test" or not labels.is_dir())
            entries = _entries(labels / below)
            found = channel_groups(_entries(images / below), entries)
            if unlabelled:
                cases += [_case(name, files, [], part) for name, files in found.items()]
                continue
            paired, faults = pair(found, entries, choice.label_suffix, part)
            cases += paired
            problems += faults
        if not cases and not problems:
            raise DataError(f"{images}: no image files")
        refuse_doubles(cases)
        if not labels.is_dir():
            problems.append(
                Problem(
                    "labels", f"{root}: has no folder labels/", "add the label maps; medseg infer needs none"
                )
            )
        return Found(self.name, sorted(cases, key=lambda c: c.id), problems)


class LooseLayout:
    """Images without label maps: files, or a DICOM series."""

    name = "images without labels"

    def holds(self, root: Path) -> bool:
        return root.is_dir() and (holds_dicom(root) or bool(list_images(root)))

    def find(self, root: Path, choice: Choice) -> Found:
        entries = [root] if holds_dicom(root) else list_images(root)
        cases = [Case(stem_of(image.resolve() if image == root else image), image) for image in entries]
        refuse_doubles(cases)
        found = f"expected the folders images/ and labels/ in it, found {len(cases)} images"
        return Found(self.name, cases, [_unlabelled(root, f"{root}: {found}")])


def _one_series(root: Path, choice: Choice) -> Found:
    """``images/`` that is itself a DICOM series: it has no name, so any one label map is its own."""
    labels = _entries(root / "labels")
    chosen = [p for p in labels if stem_of(p).endswith(choice.label_suffix or ("",))]
    case = _case(root.resolve().name, (root / "images",), chosen, None)
    if not labels:
        return Found(FoldersLayout.name, [case], [_unlabelled(root, f"{root}: has no label maps")])
    faults = [] if len(chosen) == 1 else list(_faults({root.resolve(): chosen}, []))
    return Found(FoldersLayout.name, [case], faults)


def _unlabelled(root: Path, message: str) -> Problem:
    return Problem(
        root.name, message, "training needs label maps in labels/; medseg infer does not", unlabelled=True
    )


def pair(
    images: dict[str, tuple[Path, ...]],
    labels: list[Path],
    suffix: str | tuple[str, ...] | None,
    part: Part | None = None,
) -> tuple[list[Case], list[Problem]]:
    """Cases of images (by name) with their label maps; those without exactly one lack it, and are problems."""
    shown = {name: _named(files[0], name) for name, files in images.items()}
    matches, orphans = match(list(shown.values()), labels, label_suffix=suffix)
    by_shown = {path: name for name, path in shown.items()}
    cases = [_case(by_shown[path], images[by_shown[path]], found, part) for path, found in matches.items()]
    return cases, list(_faults(matches, orphans))


def _named(path: Path, name: str) -> Path:
    """A path as it would be called by a case's name: without its channel."""
    stem = stem_of(path)
    return path if stem == name else path.with_name(name + path.name[len(stem) :])


def _case(name: str, files: tuple[Path, ...], labels: list[Path], part: Part | None) -> Case:
    label = labels[0] if len(labels) == 1 else None
    if label is not None and label.is_dir() and not holds_dicom(label) and not _is_stack_like(label, files[0]):
        masks = {stem_of(mask): mask for mask in list_images(label)}
        return Case(name, files[0], None, part, files[1:], masks)
    return Case(name, files[0], label, part, files[1:])


def _faults(matches: dict[Path, list[Path]], orphans: list[Path]) -> Iterable[Problem]:
    for image, found in matches.items():
        if not found:
            yield Problem(
                stem_of(image), f"image {image.name} has no label map",
                "add one of the same name to labels/ (a suffix such as _mask is fine), or take the image away",
            )  # fmt: skip
        elif len(found) > 1:
            names = ", ".join(p.name for p in found)
            yield Problem(
                stem_of(image), f"image {image.name} has {len(found)} label maps: {names}",
                "choose one with data.label_suffix",
            )  # fmt: skip
    for orphan in orphans:
        yield Problem(
            stem_of(orphan), f"label map {orphan.name} has no image",
            "add the image of the same name, or take the label map away",
        )  # fmt: skip


def _entries(folder: Path) -> list[Path]:
    """Files, DICOM series, stacks of pictures, and folders of one file a label."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if is_image_file(p) or _holds_pictures(p))


def _holds_pictures(path: Path) -> bool:
    return path.is_dir() and path.name not in PARTS and any(is_image_file(p) for p in path.iterdir())


def _is_stack_like(label: Path, image: Path) -> bool:
    """Whether a folder of label pictures goes slice by slice with a folder of image pictures."""
    return image.is_dir() and not holds_dicom(image) and len(list_images(label)) == len(list_images(image))


def channel_groups(images: list[Path], labels: list[Path]) -> dict[str, tuple[Path, ...]]:
    """Images by case; ``<case>_0000``… are one case's channels if all images are named so and no label is.

    Raises: DataError naming the cases that lack a channel.
    """
    stems = [stem_of(image) for image in images]
    found = [_CHANNEL.fullmatch(stem) for stem in stems]
    taken = {stem_of(label) for label in labels}
    named = [m for m in found if m is not None]
    if not images or len(named) < len(images) or taken & set(stems) or all(m[2] != "0000" for m in named):
        cases = [Case(stem, image) for stem, image in zip(stems, images, strict=True)]
        refuse_doubles(cases)
        return {stem: (image,) for stem, image in zip(stems, images, strict=True)}
    return group_channels(images)


def group_channels(images: list[Path]) -> dict[str, tuple[Path, ...]]:
    """Files ``<case>_<four digits>`` by case, in the order of their channels.

    Raises: DataError naming a file that is not named so, and the cases that lack a channel others have.
    """
    groups: dict[str, dict[str, Path]] = {}
    for image in images:
        found = _CHANNEL.fullmatch(stem_of(image))
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
