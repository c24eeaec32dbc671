"""Raw data of nnU-Net: ``imagesTr``, ``labelsTr``, channels as ``_0000``, ``dataset.json``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from medseg.data.cases import Case, list_images
from medseg.data.io.readers import image_stem
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.discovery import DatasetListing, LayoutOptions, with_channel_names
from medseg.data.layouts.folders import group_channels, pair
from medseg.errors import DataError, Finding


class NnunetLayout:
    """``imagesTr`` and ``labelsTr``; ``imagesTs`` is the test part, labeled if there is ``labelsTs``."""

    name = "nnU-Net raw"

    def holds(self, root: Path) -> bool:
        images = list_images(root / "imagesTr")
        return bool(images) and all(re.search(r"_\d{4}$", image_stem(p)) for p in images)

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        cases: list[Case] = []
        problems: list[Finding] = []
        test = list_images(root / "imagesTs")
        for ending in ("Tr", "Ts") if test else ("Tr",):
            part = "test" if ending == "Ts" else None
            groups = group_channels(list_images(root / f"images{ending}"))
            if part and not (root / "labelsTs").is_dir():
                cases += [Case(name, files[0], None, part, files[1:]) for name, files in groups.items()]
                continue
            found, faults = pair(groups, list_images(root / f"labels{ending}"), choice.label_suffix, part)
            cases += found
            problems += faults
        table = read_json(root / "dataset.json") if (root / "dataset.json").is_file() else {}
        labels = parse_label_table(table["labels"], root / "dataset.json") if table.get("labels") else None
        cases = with_channel_names(
            cases, declared_channels(table.get("channel_names") or table.get("modality"))
        )
        return DatasetListing(self.name, sorted(cases, key=lambda c: c.id), problems, labels)


def declared_channels(table: Any) -> list[str]:
    """Return the names of channels from a table of ``dataset.json``, number → name; empty if it is not one."""
    if isinstance(table, dict):
        entries = cast(dict[str, Any], table)
        if all(str(key).isdigit() for key in entries):
            return [str(entries[key]) for key in sorted(entries, key=int)]
    return []


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        DataError: the file is missing or not valid JSON, or contains something else.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", path=path) from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not valid JSON ({error})", path=path) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, got a {type(content).__name__}", path=path)
    return content


def parse_label_table(declared: Any, where: Path) -> LabelSchema:
    """Build a schema from a label table of nnU-Net.

    Args:
        declared: name → value, ``ignore`` → value, or name → values of a region.
        where: the file of the table, for error messages.

    Raises:
        DataError: it is not a table of labels.

    Example:
        >>> parse_label_table({"background": 0, "liver": 1}, Path("dataset.json")).names
        {'background': (0,), 'liver': (1,)}
    """
    try:
        if not isinstance(declared, dict):
            raise TypeError(f"expected names and values, got a {type(declared).__name__}")
        entries = cast(dict[str, Any], declared).items()
        table = {str(k): tuple(int(v) for v in (x if isinstance(x, list) else [x])) for k, x in entries}
        ignore = table.pop("ignore", None)
        background = next((k for k, v in table.items() if v == (0,)), "background")
        values = sorted({v for group in table.values() for v in group} - {0})
        merged = any(len(v) > 1 for v in table.values())
        single = {v[0]: name for name, v in table.items() if len(v) == 1}
        names = {background: (0,)} | {single.get(v, f"label_{v}"): (v,) for v in values}
        regions: dict[str, tuple[str, ...]] = {}
        if merged:
            by_value = {v[0]: name for name, v in names.items()}
            regions = {
                name: tuple(by_value[v] for v in group) for name, group in table.items() if group != (0,)
            }
        return LabelSchema(names=names, ignore_value=ignore[0] if ignore else None, regions=regions)
    except (ValidationError, ValueError, TypeError) as error:
        raise DataError(f"{where}: not a valid table of labels: {error}", path=where) from error
