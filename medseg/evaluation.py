"""Label maps against references: files in, tables out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from medseg.data.cases import join_problems, list_images, match
from medseg.data.dicom_out import OBJECTS_FOLDER
from medseg.data.facts import count_values
from medseg.data.labels import Labels, guess_labels
from medseg.data.readers import is_image_file, read_scan, stem_of
from medseg.data.scans import as_label_map, onto_grid
from medseg.errors import ConfigError, DataError, GeometryError
from medseg.geometry import Array
from medseg.metrics import (
    case_rows,
    confusion_matrix,
    dataset_scores,
    summarise,
    write_csv,
    write_summary,
)

Surface = Literal["surfel", "voxel"]


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a set of predictions.

    Attributes:
        rows: one dict a case and label, as in ``cases.csv``.
        summary: as in ``summary.json``.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]


def evaluate_cases(
    predictions: Path | str,
    references: Path | str,
    output: Path | str | None = None,
    *,
    labels: Labels | None = None,
    tolerance_mm: float = 1.0,
    surface: Surface = "surfel",
    label_suffix: str | None = None,
) -> Evaluation:
    """Compare every label map in ``predictions`` with its reference, found by name.

    Args:
        predictions: folder of label maps; its ``medseg.json`` names the labels.
        references: folder of reference label maps, searched below too; those never predicted are left out.
        output: folder for ``cases.csv`` and ``summary.json``; none writes nothing.
        labels: names and values, where there is no ``medseg.json`` or it should not be used.
        tolerance_mm: of the normalised surface Dice.
        surface: ``surfel`` (area-weighted) or ``voxel`` (border voxels).
        label_suffix: what a reference's name adds to its prediction's.

    Raises: DataError if a prediction has no reference or a file is unusable; GeometryError if two grids
    differ; ConfigError if the labels are not known.
    """
    predictions, references = Path(predictions), Path(references)
    pairs = _pairs(predictions, references, label_suffix)
    if labels is None:
        labels = _read_labels(predictions) or _guess([reference for _, reference in pairs.values()])
    rows: list[dict[str, Any]] = []
    matrix = np.zeros((len(labels.names),) * 2, dtype=np.int64)
    for case, (prediction, reference) in pairs.items():
        codes = _codes(case, prediction, reference, labels)
        rows += _rows(case, codes, labels, tolerance_mm, surface)
        if not labels.regions:
            matrix += confusion_matrix(
                codes.reference.astype(np.int64) - 1, codes.prediction.astype(np.int64) - 1,
                num_classes=len(labels.names), ignore_index=-1,
            )  # fmt: skip
    dataset = None if labels.regions else dataset_scores(matrix, list(labels.names))
    summary = summarise(rows, surface=surface, tolerance_mm=tolerance_mm, dataset=dataset)
    if output is not None:
        write_csv(Path(output) / "cases.csv", rows)
        write_summary(Path(output) / "summary.json", summary)
    return Evaluation(rows, summary)


def parse_labels(text: str) -> Labels:
    """Labels from ``organ=1,vessel=2`` (the background is 0), or from a ``medseg.json``.

    Raises: ConfigError if the text is neither.
    """
    if Path(text).is_file():
        return _parse_json(Path(text))
    names: dict[str, Any] = {}
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        name = name.strip()
        if name in names:
            raise ConfigError(f"--labels {text!r}: {name!r} stands there twice; merged values are {name}=1+2")
        try:
            names[name] = tuple(int(v) for v in value.split("+"))
        except ValueError as error:
            raise ConfigError(
                f"--labels {text!r}: expected NAME=VALUE[,NAME=VALUE…] or a file such as medseg.json"
            ) from error
    if not any(0 in values for values in names.values()):
        names = {"background": (0,), **names}
    try:
        return Labels(names=names)
    except ValidationError as error:
        raise ConfigError(f"--labels {text!r}: {error.errors()[0]['msg']}") from error


@dataclass(frozen=True)
class _Codes:
    """Two label maps as codes (class + 1, 0 ignored) on one grid."""

    reference: Array
    prediction: Array
    spacing: tuple[float, ...]


def _pairs(predictions: Path, references: Path, suffix: str | None) -> dict[str, tuple[Path, Path]]:
    """Case → its prediction and its reference."""
    for folder in (predictions, references):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
    predicted = _predicted(predictions)
    if not predicted:
        raise DataError(f"{predictions}: no label maps in this folder")
    known = sorted(p for p in references.rglob("*") if is_image_file(p))
    matches, _ = match(list(predicted), known, label_suffix=suffix)
    problems = [f"{p} has no reference in {references}" for p, found in matches.items() if not found]
    problems += [
        f"{p.name} has {len(found)} references: {', '.join(str(f) for f in found)} (see --label-suffix)"
        for p, found in matches.items()
        if len(found) > 1
    ]
    if problems:
        other = "references in another layout become label maps by: medseg data convert DATA OUT --to folders"
        raise DataError(join_problems(f"predictions without exactly one reference ({other})", problems))
    return {stem_of(p): (predicted[p], found[0]) for p, found in matches.items()}


def _predicted(folder: Path) -> dict[Path, Path]:
    """Label maps of a folder, each by a path whose stem is its case: its own, or, in folders below as BIDS has
    them, one made of what its provenance says.
    """
    files = [path for path in list_images(folder) if path.name != OBJECTS_FOLDER]
    if files:
        return {path: path for path in files}
    made = sorted(folder.glob("provenance/*.json"))
    records = (json.loads(path.read_text(encoding="utf-8")) for path in made)
    outputs = ((record["case"], folder / record["output"]) for record in records if "output" in record)
    return {folder / f"{case}{_ending(path)}": path for case, path in outputs if path.is_file()}


def _ending(path: Path) -> str:
    return path.name.removeprefix(stem_of(path))


def _read_labels(folder: Path) -> Labels | None:
    path = folder / "medseg.json"
    return _parse_json(path) if path.is_file() else None


def _parse_json(path: Path) -> Labels:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Labels.model_validate(content.get("labels", content))
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: holds no labels as medseg writes them ({error})") from error


def _guess(references: list[Path]) -> Labels:
    values: set[int] = set()
    for path in references:
        values |= count_values(as_label_map(read_scan(path))).keys()
    return guess_labels(values)


def _codes(case: str, prediction: Path, reference: Path, labels: Labels) -> _Codes:
    scan = read_scan(reference)
    try:
        scans = (scan, onto_grid(read_scan(prediction), scan.grid))
    except GeometryError as error:
        raise GeometryError(
            f"case {case}: prediction and reference lie on different grids: {error} ({reference}, {prediction})"
        ) from error
    maps = [labels.encode(as_label_map(scan), f"case {case}: {scan.path}") for scan in scans]
    return _Codes(maps[0], maps[1], scans[0].grid.spacing)


def _rows(
    case: str, codes: _Codes, labels: Labels, tolerance_mm: float, surface: Surface
) -> list[dict[str, Any]]:
    order = list(labels.names)
    groups = labels.regions or {name: (name,) for name in labels.evaluated}
    wanted = {name: [order.index(m) + 1 for m in members] for name, members in groups.items()}
    rows = case_rows(
        case, codes.reference, codes.prediction, wanted, codes.spacing,
        tolerance_mm=tolerance_mm, surface=surface, ignore_value=0,
    )  # fmt: skip
    for row in rows:
        row["label"] = "+".join(map(str, labels.evaluated[row["name"]]))
    return rows
