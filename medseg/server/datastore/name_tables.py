"""Adding names to the file of a dataset that names its labels, in the file's own form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.errors import DataError
from medseg.files import write_json, write_text

_ITK_SNAP = re.compile(r'\s*\d+\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+[01]\s+[01]\s+".*"\s*')
_SLICER = re.compile(r"\s*\d+\s+\S.*?\s+\d+\s+\d+\s+\d+\s+\d+\s*")
_VALUE_FIRST = re.compile(r"\d+(\s*[\s:=,;]\s*)\S.*")
_VALUE_LAST = re.compile(r".*?\S(\s*[\s:=,;]\s*)\d+")


def extend_table(path: Path, names: Mapping[str, int]) -> None:
    """Add names to a table of labels; what it holds stays as it is.

    Args:
        path: ``labels.json``, ``dataset.json``, ``labels.txt``, or a color table.
        names: name → value of the labels to add.

    Raises:
        DataError: the file is not a table of labels.
    """
    if path.suffix == ".json":
        write_json(path, _extended(json.loads(path.read_text(encoding="utf-8-sig")), names, path))
        return
    text = path.read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "//"))]
    added = "".join(_line(lines[-1] if lines else "", name, value) + "\n" for name, value in names.items())
    write_text(path, text + ("" if text.endswith("\n") or not text else "\n") + added)


def _extended(content: Any, names: Mapping[str, int], path: Path) -> Any:
    """Return a parsed table of labels with further names."""
    if isinstance(content, dict) and "labels" in content:
        return content | {"labels": _extended(content["labels"], names, path)}
    if isinstance(content, dict):
        if content and all(str(key).isdigit() for key in content):  # value → name
            return content | {str(value): name for name, value in names.items()}
        return content | dict(names)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        keys = ("value", "id", "index", "label_value")
        key = next((key for key in keys if isinstance(content[0].get(key), int)), "value")
        return [*content, *({key: value, "name": name} for name, value in names.items())]
    if isinstance(content, list):
        return [*content, *names]
    raise DataError("the file that names the labels holds no table", path=path)


def _line(last: str, name: str, value: int) -> str:
    """Return the line of a label in the form of another line."""
    if _ITK_SNAP.fullmatch(last):
        return f'{value:5d} {_color(value)}        1  1  1    "{name}"'
    if _SLICER.fullmatch(last):
        return f"{value} {name.replace(' ', '_')} {_color(value)} 255"
    first, behind = _VALUE_FIRST.fullmatch(last), _VALUE_LAST.fullmatch(last)
    if first is not None:
        return f"{value}{first[1]}{name}"
    return f"{name}{behind[1]}{value}" if behind is not None else name


def _color(value: int) -> str:
    return " ".join(str((value * step + 60) % 256) for step in (97, 57, 151))
