"""Names of label values, from files that other tools write beside a dataset.

Supported are ``labels.txt`` and ``labels.json``, the table in ``dataset.json`` (nnU-Net, Medical Segmentation
Decathlon), label descriptions of ITK-SNAP and color tables of 3D Slicer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from medseg.data.labels.schema import Color, LabelSchema
from medseg.errors import DataError

_FOLDERS = (".", "labels", "masks", "annotations")
_NAMES = ("labels.txt", "labels.json", "dataset.json")
_BACKGROUND = {"background", "_background_", "bg", "clear label", "unlabeled", "void", "none", "nothing"}
_ITK_SNAP = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.]+\s+[01]\s+[01]\s+"(.*)"\s*')
_SLICER = re.compile(r"\s*(\d+)\s+(\S.*?)\s+(\d+)\s+(\d+)\s+(\d+)\s+\d+\s*")
_VALUE_FIRST = re.compile(r"(\d+)\s*[\s:=,;]\s*(\S.*)")
_VALUE_LAST = re.compile(r"(.*\S)\s*[\s:=,;]\s*(\d+)")
_TEXT_LIMIT = 1_000_000

Entry = tuple[int, str, Color | None]


@dataclass(frozen=True)
class NameTable:
    """Labels, and the file that declares their names."""

    schema: LabelSchema
    path: Path


def read_label_names(root: Path, values: Iterable[int]) -> NameTable | None:
    """Read the names of the values in the label files of a dataset from a file in its folder.

    A file is used only if it names every value. Values that no label map contains become labels, too, except
    for those in color tables, which list labels of many datasets.

    Args:
        root: the folder of the dataset, or its manifest.
        values: values in the label files, without the ignored one.

    Returns:
        The labels; None if no file names all values.
    """
    present = set(values)
    for path in _candidates(root if root.is_dir() else root.parent):
        labels = _read(path, present)
        if labels is not None and present <= labels.declared_values:
            return NameTable(labels, path)
    return None


def _candidates(root: Path) -> list[Path]:
    """List the files that may name labels, those with standard names first."""
    folders = [root / name for name in _FOLDERS if (root / name).is_dir()]
    known = [folder / name for folder in folders for name in _NAMES]
    tables = [p for f in folders for ending in ("*.ctbl", "*.label", "*.txt") for p in sorted(f.glob(ending))]
    return [p for p in dict.fromkeys([*known, *tables]) if p.is_file() and p.stat().st_size <= _TEXT_LIMIT]


def _read(path: Path, present: set[int]) -> LabelSchema | None:
    """Read the labels that a file names; None if it is not a table of labels."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            return _from_json(json.loads(text), path, present)
        entries = _from_lines(text, path.name == "labels.txt", present)
        return _labels(entries) if entries else None
    except (OSError, ValueError, TypeError, DataError, ValidationError):
        return None  # a file for another purpose


def _labels(entries: Iterable[Entry]) -> LabelSchema:
    """Build a schema from values, names and colors; the background is 0, named or not."""
    table = {value: (name, color) for value, name, color in entries}
    background = table.pop(0, ("background", None))[0]
    if len({background, *(name for name, _ in table.values())}) < len(table) + 1:
        raise ValueError("a name appears twice")
    names = {background: (0,)} | {name: (value,) for value, (name, _) in sorted(table.items())}
    colors = {name: color for name, color in table.values() if color is not None}
    return LabelSchema(names=names, colors=colors)


def _from_lines(text: str, plain: bool, present: set[int]) -> list[Entry]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "//"))]
    for pattern, order in ((_ITK_SNAP, (1, 5, 2, 3, 4)), (_SLICER, (1, 2, 3, 4, 5))):
        matches = [pattern.fullmatch(line) for line in lines]
        if lines and all(matches):
            rows = [tuple(m[i] for i in order) for m in matches if m is not None]
            table = [(int(v), name.strip(), (int(r), int(g), int(b))) for v, name, r, g, b in rows]
            return [entry for entry in table if entry[0] in {0, *present}]  # they list many other labels
    return _plain_lines([line.strip() for line in lines], present) if plain else []


def _plain_lines(lines: list[str], present: set[int]) -> list[Entry]:
    """Parse lines of ``value name`` or ``name value`` (separated by space, colon, comma or ``=``), or names."""
    for pattern, value, name in ((_VALUE_FIRST, 1, 2), (_VALUE_LAST, 2, 1)):
        matches = [pattern.fullmatch(line) for line in lines]
        if lines and all(matches):
            return [(int(m[value]), m[name].strip(" \"'"), None) for m in matches if m is not None]
    return _numbered(lines, present)


def _numbered(names: list[str], present: set[int]) -> list[Entry]:
    """Number names from 0 if the first is the background or there is one name per value, else from 1."""
    whole = present == set(range(len(names)))
    start = 0 if names and (names[0].lower() in _BACKGROUND or whole) else 1
    return [(i, name, None) for i, name in enumerate(names, start)]


def _from_json(content: Any, path: Path, present: set[int]) -> LabelSchema | None:
    from medseg.data.layouts.nnunet import parse_label_table

    if isinstance(content, dict) and "labels" in content:
        content = cast(dict[str, Any], content)["labels"]
    elif path.name == "dataset.json":
        return None
    if isinstance(content, list):
        rows = cast(list[Any], content)
        if all(isinstance(row, str) for row in rows):
            return _labels(_numbered(rows, present))
        return _labels([_json_row(row) for row in rows])
    if isinstance(content, dict) and all(re.fullmatch(r"\d+", str(key)) for key in content):
        content = {str(name): value for value, name in cast(dict[str, Any], content).items()}
    return parse_label_table(content, path)


def _json_row(row: dict[str, Any]) -> Entry:
    value = next(row[key] for key in ("value", "id", "index", "label_value") if isinstance(row.get(key), int))
    color = row.get("color")
    rgb = cast(Color, tuple(color)) if isinstance(color, list) and len(cast(list[Any], color)) == 3 else None
    return int(value), str(row["name"]), rgb
