"""Comparison of panoptic segmentations in COCO's format."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cases import join_problems
from medseg.data.io.coco_panoptic import PanopticIndex, read_panoptic_index
from medseg.errors import DataError
from medseg.evaluation.options import ExtraPolicy, MissingPolicy
from medseg.evaluation.output import OutputFiles
from medseg.evaluation.pairing import EXTRA_HINT, check_exists, check_other_files
from medseg.evaluation.predictions import check_missing
from medseg.files import write_json, write_table
from medseg.geometry import Array
from medseg.metrics.instances import PanopticCounts, PanopticMap, count_panoptic, panoptic_scores
from medseg.report.pages.panoptic import PANOPTIC_PAGE

PANOPTIC_SUMMARY = "panoptic_scores.json"
"""Not ``panoptic.json``, which ``medseg panoptic`` writes: the scores would replace what they measure."""
PANOPTIC_TABLE = "panoptic_cases.csv"
PANOPTIC_OUTPUT = OutputFiles(
    "medseg evaluate --panoptic", (PANOPTIC_TABLE,), PANOPTIC_SUMMARY, ("case", "reference"), PANOPTIC_PAGE
)

_MOST_LISTED = 10
_MISSING_COUNT = {"worst": "counted as without segments", "ignore": "left out"}
_DEFINITIONS = {
    "match": "a reference and a predicted segment of one class with an IoU above 0.5",
    "PQ": "sum of the IoU of the matches / (found + missed / 2 + false / 2) = SQ · RQ, of a class",
    "all, things, stuff": "means over the classes that have segments; segments are pooled over the pictures",
    "PQ of a picture": "the same mean over the segments of the picture alone",
    "void and crowds": "pixels of the reference that do not count, as in COCO's panopticapi",
    "missing_predictions": "count as pictures without predicted segments, or are left out (missing_policy)",
}


@dataclass(frozen=True)
class PanopticEvaluation:
    """Panoptic quality of a dataset.

    Attributes:
        summary: content of ``panoptic_scores.json``: ``scores`` of ``all``, ``things`` and ``stuff``,
            ``classes`` with the number of segments, ``cases``, ``missing``, ``missing_policy``, ``extra``,
            ``notes``, ``sources`` and ``definitions``.
        rows: one for each picture, as in ``panoptic_cases.csv``.
    """

    summary: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def table(self) -> str:
        """Return the scores as text."""
        rows = {**self.summary["scores"], **self.summary["classes"]}
        width = max(map(len, rows))
        lines = [f"{'':{width}}      PQ      SQ      RQ"]
        for name, row in rows.items():
            shown = ("–" if row[key] is None else f"{row[key]:.3f}" for key in ("pq", "sq", "rq"))
            lines.append(f"{name:{width}}  " + "  ".join(f"{text:>6}" for text in shown))
        lines.append(f"{self.summary['cases']} pictures compared")
        lines += [f"note: {note}" for note in self.summary["notes"]]
        if missing := self.summary["missing"]:
            title = f"pictures without a prediction, {_MISSING_COUNT[self.summary['missing_policy']]}"
            lines.append(join_problems(title, missing, most=_MOST_LISTED))
        if extra := self.summary["extra"]:
            lines.append(join_problems("predictions without a reference, left out", extra, most=_MOST_LISTED))
        return "\n".join(lines)


def evaluate_panoptic(
    predictions: Path | str,
    references: Path | str,
    output: Path | str | None = None,
    *,
    missing: MissingPolicy = "error",
    extra: ExtraPolicy = "error",
) -> PanopticEvaluation:
    """Compare panoptic segmentations: PQ, SQ and RQ of things, stuff and each class, pooled over the pictures.

    Args:
        predictions: a panoptic JSON file.
        references: likewise; classes are matched by name.
        output: folder for ``panoptic_scores.json`` and ``panoptic_cases.csv``; None: no file is written. The
            files of an earlier comparison are replaced, once there are new ones.
        missing: whether pictures without a prediction are an error, are left out (``ignore``), or count as void
            (``worst``).
        extra: whether predicted pictures that have no reference are an error, or are left out and listed.

    Raises:
        DataError: a file is no panoptic JSON, a class of the predictions is not in the references, a picture
            has no prediction (with ``missing="error"``) or no reference (with ``extra="error"``), or no picture
            is in both files.
        ConfigError: both files are the same.
        ExistingFileError: ``output`` has tables of another origin.
    """
    folder = None if output is None else Path(output)
    with PANOPTIC_OUTPUT.replacing(folder):
        evaluation = _evaluate(Path(predictions), Path(references), missing, extra)
    if folder is not None:
        write_table(folder / PANOPTIC_TABLE, list(evaluation.rows[0]), evaluation.rows)
        write_json(folder / PANOPTIC_SUMMARY, evaluation.summary)
    return evaluation


def _evaluate(
    predictions: Path, references: Path, missing: MissingPolicy, extra: ExtraPolicy
) -> PanopticEvaluation:
    """Compare all pictures; see ``evaluate_panoptic``."""
    check_exists(predictions, references)
    check_other_files([(predictions, references)], predictions, references)
    found, expected = read_panoptic_index(predictions), read_panoptic_index(references)
    if not found.entries.keys() & expected.entries.keys():
        first = ", ".join(next(iter(one.entries), "none") for one in (found, expected))
        raise DataError(
            f"{predictions} and {references}: no picture is in both files; the first ones are {first}",
            hint="The PNG of a picture has the same name in both files.",
        )
    left_out = sorted(found.entries.keys() - expected.entries.keys())
    if left_out and extra == "error":
        raise DataError(
            join_problems(f"{predictions}: pictures without a reference in {references}", left_out),
            hint=EXTRA_HINT,
            path=predictions,
        )
    absent = sorted(expected.entries.keys() - found.entries.keys())
    reasons = dict.fromkeys(absent, "not in the predictions")
    check_missing(missing, reasons, f"{len(expected.entries)} pictures", worst="as void")
    table = _matched_categories(found, expected)
    things = [number for number, one in expected.categories.items() if one.is_thing]
    counts: dict[int, PanopticCounts] = {}
    rows: list[dict[str, Any]] = []
    compared = [name for name in expected.entries if missing == "worst" or name in found.entries]
    for name in compared:
        own = count_panoptic([_pair(name, found, expected, table)])
        rows.append({"case": name, **_row(own, things)})
        for kind, one in own.items():
            counts.setdefault(kind, PanopticCounts()).add(one)
    summary = {
        "scores": {name: _finite(row) for name, row in panoptic_scores(counts, things).items()},
        "classes": {
            expected.categories[k].name: {"kind": "thing" if k in things else "stuff"}
            | _segments([one])
            | _finite(one.scores())
            for k, one in sorted(counts.items())
        },
        "cases": len(compared),
        "missing": absent,
        "missing_policy": missing,
        "extra": left_out,
        "notes": _notes(rows),
        "sources": {"predictions": predictions.name, "references": references.name},
        "definitions": _DEFINITIONS,
    }
    return PanopticEvaluation(summary, rows)


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what makes the scores doubtful: that there is no error."""
    if all(row["pq"] in (1, None) for row in rows) and any(row["pq"] for row in rows):
        return ["every segment is matched exactly: are these the predictions that you want to evaluate?"]
    return []


def _row(counts: Mapping[int, PanopticCounts], things: Collection[int]) -> dict[str, Any]:
    """Return the scores of one picture."""
    scores = {name: _finite(row) for name, row in panoptic_scores(counts, things).items()}
    parts = {f"pq_{name}": scores[name]["pq"] for name in ("things", "stuff")}
    return {**_segments(counts.values()), **scores["all"], **parts}


def _segments(counts: Collection[PanopticCounts]) -> dict[str, Any]:
    """Return the number of segments in the reference, of those found and missed, and of false ones."""
    found, missed, false = (sum(getattr(one, key) for one in counts) for key in ("tp", "fn", "fp"))
    return {"reference": found + missed, "found": found, "missed": missed, "false": false}


def _matched_categories(found: PanopticIndex, expected: PanopticIndex) -> dict[int, int]:
    """Return category of the predictions → category of the references, by name."""
    for index in (found, expected):
        names = [one.name for one in index.categories.values()]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise DataError(f"{index.path}: two categories have the name {double!r}", path=index.path)
    by_name = {one.name: number for number, one in expected.categories.items()}
    unknown = [one.name for one in found.categories.values() if one.name not in by_name]
    if unknown:
        raise DataError(
            f"{found.path}: the class {unknown[0]!r} is not in {expected.path}: {', '.join(by_name)}",
            hint="Use the same names in both files.",
            path=found.path,
        )
    return {number: by_name[one.name] for number, one in found.categories.items()}


def _pair(
    name: str, found: PanopticIndex, expected: PanopticIndex, table: dict[int, int]
) -> tuple[PanopticMap, PanopticMap]:
    reference = expected.entries[name]
    numbers = expected.read(name)
    own: Array = np.zeros_like(numbers)
    classes: dict[int, int] = {}
    if name in found.entries:
        own = found.read(name)
        classes = {number: table[kind] for number, kind in found.entries[name].classes.items()}
    if own.shape != numbers.shape:
        raise DataError(
            f"{found.entries[name].file}: has {own.shape} pixels, the reference {numbers.shape}",
            path=found.entries[name].file,
        )
    return PanopticMap(numbers, reference.classes, reference.crowds), PanopticMap(own, classes)


def _finite(row: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in row.items()}
