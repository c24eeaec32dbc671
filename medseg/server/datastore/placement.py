"""Where a label map belongs in each dataset layout, and how the layout learns of it."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from io import StringIO
from pathlib import Path
from typing import Any

from medseg.data.cases import Case
from medseg.data.io.readers import image_stem, output_suffix, split_selector
from medseg.data.layouts import layout_of
from medseg.data.layouts.bids import BidsLayout
from medseg.data.layouts.brats import BratsLayout
from medseg.data.layouts.discovery import LayoutOptions
from medseg.data.layouts.folder_names import FolderPair, find_folder_pairs
from medseg.data.layouts.folders import FoldersLayout, LooseLayout, PairsLayout
from medseg.data.layouts.manifest import ManifestLayout
from medseg.data.layouts.msd import MsdLayout
from medseg.data.layouts.nnunet import NnunetLayout
from medseg.errors import DataError
from medseg.files import check_writable, explain_write_errors, write_json, write_text

_CONTRAST = re.compile(r"[_-](t1ce|t1c|t1n|t1|t2w|t2f|t2|flair)$", re.IGNORECASE)
_ALTERNATIVE = "serve a copy of the dataset that can be written to"
_TABLES = ("manifest.csv", "manifest.json", "cases.csv")


@dataclass(frozen=True)
class LabelPlaces:
    """The places of label maps in one dataset.

    Attributes:
        root: folder or manifest of the dataset.
        choice: settings that select its files.
    """

    root: Path
    choice: LayoutOptions

    def prepare(self, versions: Path) -> None:
        """Check that label maps can be written; BIDS without ``derivatives`` gets this folder for them.

        Args:
            versions: folder of the versions of labels.

        Raises:
            DataError: label maps cannot be written in this layout.
            NotWritableError: the folder of the versions cannot be written to.
        """
        if self.root.exists():
            check_writable(versions, f"{_ALTERNATIVE.capitalize()}.")
        described = self.root.is_dir() and (self.root / "dataset_description.json").is_file()
        if described and any(self.root.glob("sub-*")):
            (self.root / "derivatives").mkdir(exist_ok=True)
        self.check()

    def check_folders(self, cases: list[Case]) -> None:
        """Check that the folders of label maps can be written to: those of present ones, and of a new one.

        Raises:
            NotWritableError: one cannot.
        """
        folders = {case.label.parent for case in cases if case.label is not None}
        new = next((case for case in cases if not case.label_files), None)
        if new is not None:
            with suppress(DataError):  # saving says why this case takes no label map
                folders.add(self.place(new, cases).parent)
        for folder in sorted(folders):
            check_writable(folder, f"{_ALTERNATIVE.capitalize()}.")

    def writing(self) -> AbstractContextManager[None]:
        """Convert system errors of writing to the dataset into errors with a hint."""
        folder = self.root if self.root.is_dir() else self.root.parent
        return explain_write_errors(folder, _ALTERNATIVE)

    def check(self) -> None:
        """Check that label maps of this layout can be written.

        Raises:
            DataError: they cannot.
        """
        layout = layout_of(self.root, self.choice)
        writable = (
            FoldersLayout, PairsLayout, LooseLayout, NnunetLayout, MsdLayout, ManifestLayout, BidsLayout,
            BratsLayout,
        )  # fmt: skip
        if layout is not None and not isinstance(layout, writable):
            raise DataError(
                f"{self.root}: label maps of the layout {layout.name} can be read, not written",
                hint="Convert the dataset first: medseg data convert.",
                path=self.root,
            )

    def place(self, case: Case, others: list[Case]) -> Path:
        """Return the file of a case's label map: the present one, or a new one that the layout will find.

        Args:
            case: the case.
            others: all cases of the dataset; a new name follows those of their label maps.

        Raises:
            DataError: its labels cannot be written in this layout.
        """
        if case.masks:
            raise DataError(
                "the labels of this case are several files, which cannot be written",
                hint="Convert the dataset first: medseg data convert.",
            )
        suffix = output_suffix(case.image)
        if case.label is not None:
            return _with_format(case.label, suffix)
        folder, stem = self._new(case, others)
        return folder / f"{stem}{suffix}"

    def _new(self, case: Case, others: list[Case]) -> tuple[Path, str]:
        """Return folder and name, without suffix, of a new label map."""
        layout, root = layout_of(self.root, self.choice), self.root
        same = [one for one in others if one.label is not None and one.part == case.part] or others
        if isinstance(layout, FoldersLayout):
            pair = _folder_pair(find_folder_pairs(root, self.choice), case)
            return _label_folder(root, pair, self.choice), _like_others(case, same, self.choice, "")
        if isinstance(layout, PairsLayout | LooseLayout):
            if case.image == root:
                raise DataError(
                    f"{root}: is itself an image", hint="Serve the folder that contains it.", path=root
                )
            return case.image.parent, _like_others(case, same, self.choice, "_label")
        if isinstance(layout, NnunetLayout):
            return root / ("labelsTs" if case.part == "test" else "labelsTr"), case.id
        if isinstance(layout, MsdLayout):
            return root / ("labelsTs" if case.part == "test" else "labelsTr"), case.id
        if isinstance(layout, ManifestLayout):
            return _table(root).parent / "labels", case.id
        if isinstance(layout, BidsLayout):
            return root / "derivatives" / "manual" / case.image.parent.relative_to(root), f"{case.id}_dseg"
        if isinstance(layout, BratsLayout):
            stem = image_stem(case.image)
            mark = "-" if re.search(r"-[a-z0-9]+$", stem, re.IGNORECASE) and "_t" not in stem.lower() else "_"
            return case.image.parent, f"{_CONTRAST.sub('', stem)}{mark}seg"
        self.check()
        raise DataError(f"{root}: no layout of a dataset", path=root)

    def declare(self, case: Case, label: Path) -> None:
        """Enter a new label map into the table of cases, for layouts that have one."""
        layout = layout_of(self.root, self.choice)
        if case.label is not None and case.label == label:
            return
        if isinstance(layout, MsdLayout):
            _declare_msd(self.root / "dataset.json", case, label)
        elif isinstance(layout, ManifestLayout):
            _declare_in_table(_table(self.root), case, label)


def _with_format(label: Path, suffix: str) -> Path:
    """Return the place of a label map, with the suffix of the format that it is written in."""
    base, selector = split_selector(label)
    if selector is not None or base.suffix.lower() == ".json":
        raise DataError("the label of this case is part of a file with other labels, which cannot be written")
    same = base.name.lower().endswith(suffix) or (suffix == ".nii.gz" and base.name.lower().endswith(".nii"))
    return base if same else base.with_name(image_stem(base) + suffix)


def _folder_pair(pairs: list[FolderPair], case: Case) -> FolderPair:
    return next((pair for pair in pairs if pair.images in (case.image, case.image.parent)), pairs[0])


def _label_folder(root: Path, pair: FolderPair, choice: LayoutOptions) -> Path:
    """Return the folder of the label maps beside a folder of images."""
    if pair.labels is not None:
        return pair.labels
    images = pair.images
    if images.name in ("imagesTr", "imagesTs"):
        return images.with_name(images.name.replace("images", "labels"))
    name = choice.label_dir or Path("labels")
    parts_below = pair.part is not None and images.parent != root and images.parent.parent == root
    above = parts_below and images.name.lower() not in ("images", "image", "imgs", "img", "scans", "scan")
    return root / name / images.name if above else images.parent / name


def _like_others(case: Case, others: list[Case], choice: LayoutOptions, default: str) -> str:
    """Return the name of a new label map: as those of other cases relate to their images."""
    if choice.label_suffix is not None:
        suffix = choice.label_suffix
        return case.id + (suffix if isinstance(suffix, str) else suffix[0])
    named = [(one.id, image_stem(one.label)) for one in others if one.label is not None]
    added = Counter(label[len(name) :] for name, label in named if label.startswith(name))
    if added:
        return case.id + added.most_common(1)[0][0]
    for name, label in named:
        at, there, size = _common_part(name, label)
        start, end = name[:at], name[at + size :]
        if size and case.id.startswith(start) and case.id.endswith(end):
            key = case.id[len(start) : len(case.id) - len(end)]
            return label[:there] + key + label[there + size :]
    return case.id + default


def _common_part(name: str, label: str) -> tuple[int, int, int]:
    """Return where a number, or else the longest part, that two names share begins in each, and its length."""
    for number in re.finditer(r"\d+", name):
        there = label.find(number[0])
        if there >= 0:
            return number.start(), there, len(number[0])
    found = SequenceMatcher(None, name, label, autojunk=False).find_longest_match()
    return found.a, found.b, found.size


def _table(root: Path) -> Path:
    return root if root.is_file() else next(root / name for name in _TABLES if (root / name).is_file())


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _declare_msd(table: Path, case: Case, label: Path) -> None:
    """Enter a label map into the entry of its image in ``dataset.json``."""
    content = json.loads(table.read_text(encoding="utf-8"))
    for part in ("training", "test"):
        for index, entry in enumerate(content.get(part) or []):
            image = entry if isinstance(entry, str) else entry["image"]
            if (table.parent / image) == case.image:
                content[part][index] = {"image": image, "label": f"./{_relative(label, table.parent)}"}
    write_json(table, content)


def _declare_in_table(table: Path, case: Case, label: Path) -> None:
    """Enter a label map into the row of its case in a manifest."""
    name = _relative(label, table.parent)
    if table.suffix.lower() == ".json":
        content: Any = json.loads(table.read_text(encoding="utf-8"))
        for entry in content["cases"] if isinstance(content, dict) else content:
            if _is_row(entry, case, table):
                entry["label"] = name
        write_json(table, content)
        return
    with table.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        rows, columns = list(reader), list(reader.fieldnames or ())
    columns += [] if "label" in columns else ["label"]
    for row in rows:
        if _is_row(row, case, table):
            row["label"] = name
    text = StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, text.getvalue())


def _is_row(row: dict[str, Any], case: Case, table: Path) -> bool:
    image = row.get("image")
    files = list(image.values()) if isinstance(image, dict) else image if isinstance(image, list) else [image]
    files += [value for key, value in row.items() if str(key).startswith("image:")]
    named = [table.parent / str(file) for file in files if file]
    return row.get("id") == case.id if row.get("id") else case.image in named
