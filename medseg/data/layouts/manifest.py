"""Manifests: tables of cases, as CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from medseg.data.cases import PARTS, Case, Part
from medseg.data.io.readers import image_stem, split_selector
from medseg.data.layouts.discovery import DatasetListing, LayoutOptions, check_unique_ids, partner_problem
from medseg.errors import DataError, Finding

_NAMES = ("manifest.csv", "manifest.json", "cases.csv")
_COLUMNS = ("id", "image", "label", "patient", "split", "labeled")
_PARTS = {"training": "train", "validation": "val", "testing": "test"}
"""Other names of the parts of a split."""


class ManifestLayout:
    """One row (JSON: object) per case; paths are relative to the table.

    Columns: ``image``, or ``image:<kind>`` for each channel (``data.modalities`` chooses and orders them);
    ``label``, or ``label:<name>`` for labels with a file each; ``id`` (default: the image's name);
    ``patient``; ``split`` (train, val, test); ``labeled``, the annotated labels if not all are, separated by
    semicolons. Any other column is kept as metadata.
    """

    name = "manifest"

    def holds(self, root: Path) -> bool:
        return _table(root) is not None

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        table = _table(root)
        assert table is not None
        cases: list[Case] = []
        problems: list[Finding] = []
        for number, row in enumerate(_rows(table), start=1):
            case = _case(row, table, f"{table}, case {number}", choice)
            missing = [str(p) for p in (*case.images, *case.label_files) if not _exists(p)]
            if missing:
                message = f"{table} lists files that do not exist: {', '.join(missing)}"
                problems.append(
                    partner_problem(case.id, message, "correct the path, which is relative to the table")
                )
            else:
                cases.append(case)
        check_unique_ids(cases)
        return DatasetListing(self.name, sorted(cases, key=lambda c: c.id), problems)


def _table(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() in (".csv", ".json") else None
    return next(
        (root / name for name in _NAMES if (root / name).is_file() and _names_images(root / name)), None
    )


def describe_other_tables(root: Path) -> str:
    """Explain why tables with the name of a manifest are not manifests; empty without such tables."""
    tables = [root / name for name in _NAMES if (root / name).is_file() and not _names_images(root / name)]
    return "".join(
        f". {table.name} is not a manifest: expected a column image, or image:NAME for each channel"
        for table in tables
    )


def _names_images(table: Path) -> bool:
    """Return whether a table has a column ``image`` or ``image:…``, unlike a table of results.

    True for a table that cannot be read, so that reading it raises the error.
    """
    try:
        rows = _rows(table)
    except DataError:
        return not table.name.startswith("cases")
    return any(key == "image" or key.startswith("image:") for row in rows for key in row)


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        if table.suffix.lower() == ".json":
            content: Any = json.loads(table.read_text(encoding="utf-8"))
            entries = content.get("cases") if isinstance(content, dict) else content
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise DataError(f"{table}: expected a list of objects, one per case", path=table)
            return [_flat(cast(dict[str, Any], entry)) for entry in entries]
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(stream)]
    except (ValueError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table of cases ({error})", path=table) from error
    if not rows:
        raise DataError(f"{table}: contains no cases", path=table)
    return rows


def _flat(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return a JSON case as a CSV row: ``image: {t1: a}`` → ``image:t1``, lists joined by semicolons."""
    row: dict[str, str] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            row |= {f"{key}:{k}": str(v) for k, v in cast(dict[str, Any], value).items()}
        elif isinstance(value, list) and key == "image":
            row |= {f"image:{i}": str(v) for i, v in enumerate(cast(list[Any], value))}
        elif isinstance(value, list):
            row[key] = ";".join(map(str, cast(list[Any], value)))
        elif value is not None:
            row[key] = str(value)
    return row


def _case(row: dict[str, str], table: Path, where: str, choice: LayoutOptions) -> Case:
    base = table.parent
    kinds, files = _images(row, base, where, choice)
    masks = {k.partition(":")[2]: base / v for k, v in row.items() if k.startswith("label:") and v}
    label, part = row.get("label") or None, _part(row, where)
    if label and masks:
        raise DataError(
            f"{where}: has both a column label and columns {[f'label:{m}' for m in masks]}",
            hint="Keep one kind.",
        )
    named = row.get("labeled")
    return Case(
        row.get("id") or image_stem(files[0]),
        files[0],
        base / label if label else None,
        part,
        tuple(files[1:]),
        masks,
        patient=row.get("patient") or None,
        labeled=tuple(n.strip() for n in named.split(";") if n.strip()) if named else None,
        metadata={k: v for k, v in row.items() if k not in _COLUMNS and ":" not in k},
        channel_names=kinds if any(kinds) else (),
    )


def _images(
    row: dict[str, str], base: Path, where: str, choice: LayoutOptions
) -> tuple[tuple[str, ...], list[Path]]:
    """Return the names of the channels of a case and their files."""
    images = {k.partition(":")[2]: v for k, v in row.items() if (k == "image" or k.startswith("image:")) and v}
    kinds = choice.modalities or tuple(images)
    if not images or any(kind not in images for kind in kinds):
        wanted = ", ".join(f"image:{k}" for k in kinds) or "image:NAME for each channel"
        raise DataError(f"{where}: expected an entry in the column image, or {wanted}; got {sorted(row)}")
    return kinds, [base / images[kind] for kind in kinds]


def _part(row: dict[str, str], where: str) -> Part | None:
    """Return the part of the split that a row names."""
    named = row.get("split")
    if not named:
        return None
    part = _PARTS.get(named, named)
    if part not in PARTS:
        raise DataError(f"{where}: split is {named!r}, expected train, val or test")
    return part


def _exists(path: Path) -> bool:
    return split_selector(path)[0].exists()
