"""Scores of one method: a table, a folder of an evaluation, or predictions that are evaluated first."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.data.io.readers import is_image_file
from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, DataError
from medseg.evaluation.evaluation import CaseFiles
from medseg.evaluation.objects import OBJECTS_TABLE, PANOPTIC_TABLE
from medseg.evaluation.options import EvaluationOptions
from medseg.evaluation.output import CASES_FILE, SUMMARY_FILE, read_case_files
from medseg.evaluation.run import evaluate_cases
from medseg.files import as_json_object, check_exists

SCORED = "scored"

_TABLES = (CASES_FILE, OBJECTS_TABLE, PANOPTIC_TABLE)
"""Tables of evaluations with one row per case, in the order in which a folder is looked through."""
_TEXT = ("case", "label", "name", "status")
_CASE_NAMES = ("case", "case_id", "id", "subject", "image")
_LABEL_NAMES = ("name", "label", "structure", "task", "class")
_NO_NUMBER = ("", "na", "n/a", "#n/a", "none", "null", "-", "–", "—")


class UnreadNumber(float):
    """NaN in place of a cell whose text is neither a number nor a sign of a missing value."""

    text: str

    def __new__(cls, text: str) -> UnreadNumber:
        """Return NaN that knows the text of the cell."""
        one = super().__new__(cls, math.nan)
        one.text = text
        return one


@dataclass(frozen=True)
class MethodScores:
    """The scores of one method.

    Attributes:
        name: name of the method.
        rows: one dict per case and label: case, name, status and scores.
        reasons: why cases have no result.
        definitions: how the scores were computed, from ``summary.json``; empty if unknown.
        requested: the cases that the method was to segment; None if unknown.
        source: name of the file or folder.
        files: case → its files, as far as they are known; reports draw them.
        labels: names and values of the labels in these files; None if unknown.
        averaged: whether scores are means over several predictions of a case; which structures were missed is
            then not known.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])
    definitions: Mapping[str, Any] = field(default_factory=dict[str, Any])
    requested: frozenset[str] | None = None
    source: str = ""
    files: Mapping[str, CaseFiles] = field(default_factory=dict[str, CaseFiles])
    labels: LabelSchema | None = None
    averaged: bool = False


def read_method(
    name: str, path: Path, references: Path | None = None, options: EvaluationOptions | None = None
) -> MethodScores:
    """Read the scores of a method, or compute them.

    Args:
        name: name of the method.
        path: a table with one row per case and label, a folder with the tables of ``medseg evaluate``, or a
            folder of label maps.
        references: label maps that predictions are compared with.
        options: labels and files of the evaluation. Cases without a prediction are always listed, whatever its
            ``missing`` says.

    Raises:
        DataError: if the path has no scores, or no case can be scored.
        ConfigError: if predictions have no references.
    """
    check_exists(path)
    if path.is_file() and not is_image_file(path):
        return _read_table(name, path)
    table = next((path / table for table in _TABLES if (path / table).is_file()), None)
    if table is not None:
        return _read_table(name, table)
    if references is None:
        raise ConfigError(
            f"{path}: has no {', '.join(_TABLES[:-1])} or {_TABLES[-1]}, so it is taken for a folder of "
            "predictions, which need references",
            hint="Add --reference FOLDER, or give a table or folder that medseg evaluate wrote.",
            path=path,
        )
    policy = replace(options or EvaluationOptions(), missing="ignore")
    evaluation = evaluate_cases(path, references, options=policy)
    reasons = {**evaluation.missing, **evaluation.failed}
    return MethodScores(
        name, evaluation.rows, reasons, evaluation.summary["definitions"], source=path.name,
        files=evaluation.files, labels=evaluation.labels,
    )  # fmt: skip


def name_methods(paths: Sequence[str | Path]) -> dict[str, Path]:
    """Return the paths of methods by their names.

    Args:
        paths: each a path, or ``NAME=PATH``. Without a name, the last parts of the path in which the methods
            differ are joined.

    Raises:
        ConfigError: if a name or a path appears twice.

    Example:
        >>> sorted(name_methods(["runs/a/metrics", "runs/b/metrics/cases.csv", "new=c.csv"]))
        ['a', 'b', 'new']
    """
    named: dict[str, Path] = {}
    unnamed: list[Path] = []
    for entry in paths:
        name, separator, rest = str(entry).partition("=")
        if separator and not Path(entry).exists():
            _add_name(named, name.strip(), Path(rest))
        else:
            unnamed.append(Path(entry))
            named[f"\0{len(unnamed) - 1}"] = Path(entry)  # keeps the order
    _check_given_once(list(named.values()))
    names = _distinct_names(unnamed)
    result: dict[str, Path] = {}
    for key, path in named.items():
        _add_name(result, names[int(key[1:])] if key.startswith("\0") else key, path)
    return result


def _check_given_once(paths: Sequence[Path]) -> None:
    """Raise ConfigError if two paths are the same file or folder."""
    resolved = [(path.parent if path.name in _TABLES else path).resolve() for path in paths]
    twice = next((path for i, path in enumerate(paths) if resolved[i] in resolved[:i]), None)
    if twice is not None:
        raise ConfigError(
            f"{twice}: given twice; a method compared with itself shows no difference",
            hint="Give each method once.",
            path=twice,
        )


def _add_name(named: dict[str, Path], name: str, path: Path) -> None:
    if not name or name in named:
        raise ConfigError(
            f"{path}: another method is also named {name!r}" if name else f"={path}: the name is empty",
            hint="Name the methods: medseg compare first=PATH second=PATH.",
        )
    named[name] = path


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return the part of each path that tells it from the others, without a common ending."""
    parts = [list(path.absolute().with_suffix("").parts if path.is_file() else path.absolute().parts)
             for path in paths]  # fmt: skip
    for own, path in zip(parts, paths, strict=True):
        if path.name in _TABLES:
            own[:] = path.absolute().parent.parts
    while len(parts) > 1 and len({own[-1] for own in parts}) == 1 and min(map(len, parts)) > 1:
        for own in parts:
            own.pop()
    generic = ("metrics", "predictions", "evaluation")
    shown = [own[-2] if own[-1] in generic and len(own) > 1 else own[-1] for own in parts]
    return shown if len(set(shown)) == len(shown) else ["/".join(own[-2:]) for own in parts]


def _read_table(name: str, path: Path) -> MethodScores:
    rows = read_scores(path)
    source = f"{path.absolute().parent.name}/{path.name}"
    summary: dict[str, Any] = {}
    beside = path.parent / SUMMARY_FILE
    if path.name == CASES_FILE and beside.is_file():
        try:
            summary = as_json_object(json.loads(beside.read_text(encoding="utf-8")))
        except ValueError as error:
            raise DataError(f"{beside}: not a summary of medseg evaluate ({error})", path=beside) from error
    coverage = as_json_object(summary.get("coverage"))
    reasons = {**as_json_object(coverage.get("missing")), **as_json_object(coverage.get("failed"))}
    files, labels = read_case_files(path.parent) if path.name == CASES_FILE else ({}, None)
    return MethodScores(
        name, rows, reasons, as_json_object(summary.get("definitions")), source=source, files=files,
        labels=labels,
    )  # fmt: skip


def read_scores(path: Path) -> list[dict[str, Any]]:
    """Read a table of scores with one row per case and label.

    Columns: the case (``case``, ``case_id``, ``id``, ``subject`` or ``image``), the label (``name``, ``label``,
    ``structure``, ``task`` or ``class``; a table without one has one label), optionally ``status``, and scores.
    Empty cells, NA, nan and dashes are missing values.

    Raises:
        DataError: if the file is not such a table, or has no rows, or two rows of a case and label.
    """
    columns, raw, case = read_csv(path)
    label = next((column for column in _LABEL_NAMES if column in columns), None)
    if case is None or not raw:
        got = f"the columns {', '.join(columns)}" if case is None else "no rows"
        raise DataError(
            f"{path}: {got}, expected one row per case and label with the columns case, name and scores",
            path=path,
        )
    rows = [_parse_row(row, case, label) for row in raw]
    seen: set[tuple[str, str]] = set()
    for row in rows:
        key = (row["case"], row["name"])
        if key in seen:
            raise DataError(f"{path}: case {key[0]} has two rows for label {key[1]!r}, expected one", path=path)
        seen.add(key)
    return rows


def read_csv(path: Path) -> tuple[list[str], list[dict[str | None, Any]], str | None]:
    """Return the columns, the rows and the name of the column of cases; None if there is no such column.

    Raises:
        DataError: if the file is not a CSV table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table ({error})", path=path) from error
    return columns, rows, next((name for name in _CASE_NAMES if name in columns), None)


def _parse_row(row: Mapping[str | None, Any], case: str, label: str | None) -> dict[str, Any]:
    parsed: dict[str, Any] = {
        str(key): value if key in _TEXT else _number(value)
        for key, value in row.items()
        if key is not None and key not in (case, label)
    }
    return {"case": str(row[case]), "name": str(row[label]) if label else "all"} | parsed


def _number(text: str | None) -> float:
    """Return the number of a cell; nan if it is empty, has none, or another text."""
    value = (text or "").strip()
    try:
        return math.nan if value.lower() in _NO_NUMBER else float(value)
    except ValueError:
        return UnreadNumber(value)
