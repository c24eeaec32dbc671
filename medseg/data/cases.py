"""``Case``: the files that belong together. Layouts (``medseg.data.layouts``) find them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from medseg.data.io.readers import image_stem, is_image_file
from medseg.errors import ConfigError, DataError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
_SEPARATORS = "_-. "
_IMAGE_WORDS = ("_image", "-image", ".image", "_img", "-img", "_im", "_orig", "_scan")


@dataclass(frozen=True)
class Case:
    """The image and the label files of one case.

    Raises:
        DataError: ``id`` is not a plain file name.

    Attributes:
        id: unique in a dataset. Outputs are named after it, so it has no slashes and no leading dot.
        image: file of the image, or folder of DICOM slices or of the pictures of a stack.
        label: file of the label map, if there is one: a label map, a color-coded picture, a DICOM SEG, or
            ``FILE.json#IMAGE`` for one image of COCO annotations, ``FILE.json#IMAGE.png`` of panoptic ones.
        part: part of the split that the dataset puts it in, if any.
        other_channels: files of the image's further channels, on the same grid.
        masks: label name → file, if each label has its own file (binary, or probabilities).
        patient: cases of one patient stay on one side of a split.
        labeled: names of the labels that are annotated in this case; None means all.
        foreground: file of a mask on the image's grid; inference skips what lies far from it.
        metadata: other columns of a manifest.
        channel_names: names of the channels in the dataset, in order (``CT``; ``T1``, ``FLAIR``); empty if they
            are not named.
    """

    id: str
    image: Path
    label: Path | None = None
    part: Part | None = None
    other_channels: tuple[Path, ...] = ()
    masks: Mapping[str, Path] = field(default_factory=dict)
    patient: str | None = None
    labeled: tuple[str, ...] | None = None
    foreground: Path | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fault = _invalid_id_reason(self.id)
        if fault is not None:
            raise DataError(
                f"{self.image}: the case id {self.id!r} {fault}; files are named after "
                "ids, so expected a plain name such as case_01",
                hint="Change it in the manifest or cases.json, or rename the file.",
                path=self.image,
            )

    @property
    def images(self) -> tuple[Path, ...]:
        """Files of all channels, in order."""
        return (self.image, *self.other_channels)

    @property
    def label_files(self) -> tuple[Path, ...]:
        """Files that the label map is read from; empty for an unlabeled case."""
        return (self.label,) if self.label is not None else tuple(self.masks.values())


def _invalid_id_reason(name: str) -> str | None:
    """Return why an id cannot be part of a file name; None if it can."""
    if not name.strip():
        return "is empty"
    if "/" in name or "\\" in name:
        return "holds a slash"
    if name.startswith("."):
        return "begins with a dot"
    if not name.isprintable():
        return "holds a control character"
    return None


def with_patient(case: Case, pattern: str | None) -> Case:
    """Return the case with the patient that the first group of a regular expression matches in its id.

    Raises:
        ConfigError: the expression does not match.
    """
    if pattern is None:
        return case
    matched = re.search(pattern, case.id)
    if matched is None:
        raise ConfigError(
            f"data.patient: {pattern!r} matches no patient in the case id {case.id!r}", case=case.id
        )
    return replace(case, patient=matched[1])


def list_images(folder: Path) -> list[Path]:
    """List the image files and DICOM folders directly in a folder, sorted by name; empty without the folder."""
    if not Path(folder).is_dir():
        return []
    return sorted(p for p in Path(folder).iterdir() if is_image_file(p))


def match(
    images: list[Path], labels: list[Path], *, label_suffix: str | tuple[str, ...] | None = None
) -> tuple[dict[Path, list[Path]], list[Path]]:
    """Match label maps to images by name; return those of each image, and those of none.

    A label map has the name of its image, or this name plus a suffix that begins with a separator such as
    ``_``, ``-`` or ``.`` (``case_mask.png``). It may omit a word such as ``_image`` at the end of the name of
    the image. If ``label_suffix`` is set, label maps without this suffix are ignored; of several suffixes, the
    first that an image has is used.
    """
    by_stem = {name: image for image in images for name in _names_of(image_stem(image))}
    by_stem |= {image_stem(image): image for image in images}
    matches: dict[Path, list[Path]] = {image: [] for image in images}
    orphans: list[Path] = []
    if label_suffix is not None:
        for suffix in (label_suffix,) if isinstance(label_suffix, str) else label_suffix:
            found = [(_base(image_stem(label), suffix), label) for label in labels]
            wanted = [(by_stem[base], label) for base, label in found if base is not None and base in by_stem]
            open_images = {image for image, label in wanted if not matches[image]}
            for image, label in wanted:
                if image in open_images:
                    matches[image].append(label)
        return matches, []
    for label in labels:
        stem = _image_stem(image_stem(label), by_stem)
        if stem is not None:
            matches[by_stem[stem]].append(label)
        else:
            orphans.append(label)
    return matches, orphans


def match_numbered(images: list[Path], labels: list[Path]) -> tuple[dict[Path, list[Path]], list[Path]] | None:
    """Match label maps to images by the part of the names that varies (``21_training`` and
    ``21_manual1``; ``img001`` and ``mask001``), as :func:`match`; None if this gives no unique pairs.
    """
    own, theirs = _varying([image_stem(p) for p in images]), _varying([image_stem(p) for p in labels])
    if len(set(own)) < len(images) or len(set(theirs)) < len(labels) or not set(theirs) <= set(own):
        return None
    by_key = dict(zip(own, images, strict=True))
    matches: dict[Path, list[Path]] = {image: [] for image in images}
    for key, label in zip(theirs, labels, strict=True):
        matches[by_key[key]].append(label)
    return matches, []


def _varying(stems: list[str]) -> list[str]:
    """Return each name without the start and the end that all names share; numbers are not cut."""
    if len(stems) < 2:
        return []
    first = _common_start(stems).rstrip("0123456789")
    rest = [stem[len(first) :] for stem in stems]
    last = _common_start([stem[::-1] for stem in rest])[::-1].lstrip("0123456789")
    return [stem[: len(stem) - len(last)] for stem in rest]


def _common_start(names: list[str]) -> str:
    low, high = min(names), max(names)
    same = next(
        (i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )
    return low[:same]


def _base(stem: str, suffix: str) -> str | None:
    return stem.removesuffix(suffix) if stem.endswith(suffix) else None


def join_problems(title: str, problems: list[str], *, most: int = 20) -> str:
    """Join problems into one message that lists the first ``most`` of them."""
    lines = problems[:most]
    if len(problems) > most:
        lines.append(f"… and {len(problems) - most} more")
    return f"{title} ({len(problems)}):\n  " + "\n  ".join(lines)


def _names_of(stem: str) -> tuple[str, ...]:
    """Return the names by which a label map may refer to its image: its name, with or without ``_image``."""
    return (stem, *(stem.removesuffix(word) for word in _IMAGE_WORDS if stem.endswith(word)))


def _image_stem(stem: str, by_stem: dict[str, Path]) -> str | None:
    if stem in by_stem:
        return stem
    ends = [i for i, character in enumerate(stem) if character in _SEPARATORS]
    return next((stem[:end] for end in reversed(ends) if stem[:end] in by_stem), None)
