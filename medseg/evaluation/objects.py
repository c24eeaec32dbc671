"""Comparison of numbered objects with references: found, split and merged objects, average precision."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.io.readers import read_scan
from medseg.data.scans import Scan, align_to_grid, as_label_map
from medseg.errors import DataError, MedsegError
from medseg.evaluation.pairing import Suffixes, check_exists, pair_cases
from medseg.files import write_json, write_table
from medseg.geometry import Array
from medseg.metrics.instances import (
    DetectedObjects,
    Overlaps,
    PrecisionOptions,
    foreground_overlaps,
    free_response_curve,
    instance_scores,
    overlaps_of_label_maps,
    precision_table,
)
from medseg.progress import QUIET, Progress, stage

OBJECTS_TABLE, OBJECTS_SUMMARY = "objects.csv", "objects.json"
_OF_CASE = ("pooled_50", "pooled_mean", "f1_50", "pq", "sq", "rq", "aji_plus", "split", "merged")
_SHOWN = {
    "pooled_50": "TP/(TP+FP+FN) at IoU 0.5, all images together",
    "pooled_mean": "the same, mean over IoU 0.5:0.95",
    "per_image_50": "TP/(TP+FP+FN) at IoU 0.5, mean over images",
    "per_image_mean": "the same, mean over IoU 0.5:0.95",
    "f1_50": "F1 at IoU 0.5",
    "ap": "COCO AP (IoU 0.5:0.95)",
    "ap50": "COCO AP50",
    "ap75": "COCO AP75",
    "pq": "PQ",
    "sq": "SQ",
    "rq": "RQ",
    "aji_plus": "AJI+, mean over images",
    "cpm": "CPM (FROC at IoU 0.1)",
    "count_mae": "error of the count, mean absolute",
    "count_bias": "error of the count, mean",
    "split": "split objects",
    "merged": "merging objects",
}


@dataclass(frozen=True)
class ObjectEvaluation:
    """Scores of objects; classes are not compared.

    Attributes:
        rows: one for each case, as in ``objects.csv``.
        summary: content of ``objects.json``: ``scores``, ``ceiling`` (of the connected components of a perfect
            foreground), ``cases``, ``missing`` and ``failed``.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def failed(self) -> dict[str, str]:
        """Cases that could not be compared, with the reason."""
        return self.summary["failed"]

    def table(self) -> str:
        """Return the scores as text, with the ceiling of a perfect foreground beside them."""
        scores, ceiling = self.summary["scores"], self.summary["ceiling"]
        width = max(map(len, _SHOWN.values()))
        lines = [f"{'':{width}}  {'score':>8}  perfect foreground"]
        for key, name in _SHOWN.items():
            if key in scores:
                limit = _format(ceiling[key]) if key in ceiling else ""
                lines.append(f"{name:{width}}  {_format(scores[key]):>8}  {limit:>8}".rstrip())
        return "\n".join(lines)


def evaluate_objects(
    predictions: Path | str,
    references: Path | str,
    output: Path | str | None = None,
    *,
    suffixes: Suffixes | None = None,
    progress: Progress = QUIET,
) -> ObjectEvaluation:
    """Compare label maps whose values number the objects.

    The average precision and FROC need scores: those of ``instances/CASE.csv``, as ``medseg infer`` writes it,
    in the folder of the predictions. A case without a prediction counts as one without objects.

    Args:
        predictions: folder of label maps, or one file.
        references: folder of reference label maps, or one file.
        output: folder for ``objects.csv`` and ``objects.json``; None: no file is written.
        suffixes: what names of files add to names of cases.
        progress: advances with each case.

    Raises:
        DataError: if a path does not exist, or no case can be compared.
    """
    predictions, references = Path(predictions), Path(references)
    check_exists(predictions, references)
    pairing = pair_cases(predictions, references, suffixes or Suffixes(None, None))
    files: dict[str, tuple[Path | None, Path]] = dict(pairing.pairs)
    files |= {case: (None, missing.reference) for case, missing in pairing.missing.items()}
    folder = predictions if predictions.is_dir() else predictions.parent
    compared: dict[str, _Compared] = {}
    failed: dict[str, str] = {}
    with stage(progress, len(files), "comparing objects"):
        for case, (prediction, reference) in sorted(files.items()):
            try:
                compared[case] = _compare(case, prediction, reference, folder)
            except MedsegError as error:
                failed[case] = str(error)
            progress.advance(case)
    if not compared:
        raise DataError(f"no case can be compared: {next(iter(failed.values()), 'there are none')}")
    rows = [{"case": case, **one.row()} for case, one in compared.items()]
    missing = {case: one.reason for case, one in pairing.missing.items()}
    summary = _summarize(list(compared.values())) | {"cases": len(rows), "missing": missing, "failed": failed}
    if output is not None:
        write_table(Path(output) / OBJECTS_TABLE, list(rows[0]), rows)
        write_json(Path(output) / OBJECTS_SUMMARY, summary)
    return ObjectEvaluation(rows, summary)


@dataclass(frozen=True)
class _Compared:
    """Overlaps of one case, those of a perfect foreground, and the scores of the predicted objects."""

    overlaps: Overlaps
    ceiling: Overlaps
    scores: Array | None

    def row(self) -> dict[str, Any]:
        """Return the scores of the case alone."""
        own = instance_scores([self.overlaps])
        counts = {
            "reference": len(self.overlaps.reference_sizes), "predicted": len(self.overlaps.predicted_sizes)
        }  # fmt: skip
        return counts | {key: _finite(own[key]) for key in _OF_CASE}


def _compare(case: str, prediction: Path | None, reference: Path, folder: Path) -> _Compared:
    scan = read_scan(reference)
    expected = _numbers(scan)
    found = np.zeros_like(expected)
    if prediction is not None:
        found = _numbers(align_to_grid(read_scan(prediction), scan.grid))
    overlaps = overlaps_of_label_maps(expected, found)
    scores = _scores(folder / "instances" / f"{case}.csv", np.unique(found[found > 0]))
    return _Compared(overlaps, foreground_overlaps(expected), scores)


def _numbers(scan: Scan) -> Array:
    """Return the numbers of the objects (*S); raise DataError if some are negative."""
    numbers = as_label_map(scan)
    if numbers.min(initial=0) < 0:
        raise DataError(
            f"{scan.path}: the smallest value is {numbers.min()}; expected 0 for background and a number for "
            "each object",
            hint="Set ignored voxels to 0.",
            path=scan.path,
        )
    return numbers


def _scores(table: Path, numbers: Array) -> Array | None:
    """Read the scores of numbered objects; None without a table that has all of them."""
    if not len(numbers):
        return np.zeros(0)
    if not table.is_file():
        return None
    with table.open(encoding="utf-8", newline="") as stream:
        known = {int(row["instance"]): float(row["score"]) for row in csv.DictReader(stream)}
    values = [known.get(int(number), math.nan) for number in numbers]
    return None if any(map(math.isnan, values)) else np.array(values)


def _summarize(compared: Sequence[_Compared]) -> dict[str, Any]:
    scores = instance_scores([one.overlaps for one in compared])
    ceiling = instance_scores([one.ceiling for one in compared])
    if all(one.scores is not None for one in compared):
        images = [_detected(one.overlaps, one.scores) for one in compared if one.scores is not None]
        scores |= precision_table(images, PrecisionOptions()).summary()
        scores["cpm"] = free_response_curve(images).cpm()
    return {"scores": {k: _finite(v) for k, v in scores.items()},
            "ceiling": {k: _finite(v) for k, v in ceiling.items()}}  # fmt: skip


def _detected(overlaps: Overlaps, scores: Array) -> DetectedObjects:
    kinds = [np.ones(len(sizes), np.int64) for sizes in (overlaps.reference_sizes, overlaps.predicted_sizes)]
    return DetectedObjects(overlaps, scores, kinds[0], kinds[1])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _format(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
