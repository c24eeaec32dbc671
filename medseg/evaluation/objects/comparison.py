"""Comparison of numbered objects with references: found, split and merged objects, average precision."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cases import join_problems
from medseg.data.parallel import Job, run_jobs
from medseg.errors import ConfigError, DataError
from medseg.evaluation.objects.pairing import PairedObjects, pair_objects
from medseg.evaluation.objects.references import object_table, read_score_table
from medseg.evaluation.objects.scores import OF_CLASS, ComparedObjects, scores_together, summarize_objects
from medseg.evaluation.options import ExtraPolicy, MissingPolicy
from medseg.evaluation.output import OutputFiles
from medseg.evaluation.pairing import Suffixes, are_copies, check_exists
from medseg.evaluation.parallel_cases import describe_error
from medseg.evaluation.predictions import MISSING_COUNT
from medseg.evaluation.voxel_count import declared_voxels
from medseg.files import write_json, write_table
from medseg.geometry import Array
from medseg.metrics.instances import (
    counted_objects,
    foreground_overlaps,
    overlaps_of_label_maps,
)
from medseg.metrics.instances.summary import SCORE_TITLES
from medseg.progress import QUIET, Progress, stage
from medseg.report.pages.objects import OBJECTS_PAGE

_LOGGER = logging.getLogger(__name__)

OBJECTS_TABLE, OBJECTS_SUMMARY = "objects.csv", "objects.json"
OBJECTS_OUTPUT = OutputFiles(
    "medseg evaluate --objects", (OBJECTS_TABLE,), OBJECTS_SUMMARY, ("case", "reference"), OBJECTS_PAGE
)
_VOXEL_BYTES, _FIXED_BYTES = 64, 100 << 20
"""Approximate memory of a case: numbers of objects as stored and relabeled, and pairs of them."""
_VOXEL_SECONDS, _FIXED_SECONDS = 5e-7, 0.02
"""Approximate time on one core."""
_MOST_LISTED = 10
_CLASS_COLUMNS = {
    "reference": "objects", "pooled_50": "@0.5", "pooled_mean": "@0.5:0.95", "f1_50": "F1", "pq": "PQ",
    "ap50": "AP50",
}  # fmt: skip
_DEFINITIONS = {
    "match": "one reference and one predicted object with an IoU of at least the threshold, assigned so that "
    "most are matched",
    "found": "reference objects that are matched at IoU 0.5; the others are missed, and predicted ones "
    "without a match are false",
    "missing_predictions": "count as images without predicted objects, or are left out (missing_policy)",
    "perfect_foreground": "scores of the connected components of all reference objects together",
}


@dataclass(frozen=True)
class ObjectEvaluation:
    """Scores of objects.

    Attributes:
        rows: one for each case, as in ``objects.csv``.
        summary: content of ``objects.json``: ``scores`` (of all classes as one), ``ceiling`` (of the connected
            components of a perfect foreground), ``classes`` (of each class, if there are several), ``cases``,
            ``missing``, ``missing_policy``, ``failed``, ``extra``, ``notes``, ``sources`` and ``definitions``.
        paired: the files, which a report draws.
        compared: case → its objects.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    paired: PairedObjects
    compared: Mapping[str, ComparedObjects] = field(default_factory=dict[str, "ComparedObjects"], repr=False)

    @property
    def failed(self) -> dict[str, str]:
        """Cases that could not be compared, with the reason."""
        return self.summary["failed"]

    def scores_of(self, cases: Iterable[str]) -> dict[str, float | None]:
        """Return ``scores`` of some of the cases together; those that could not be compared are left out."""
        return scores_together([self.compared[case] for case in cases if case in self.compared])

    def table(self) -> str:
        """Return the scores as text, with the ceiling of a perfect foreground beside them."""
        scores, ceiling = self.summary["scores"], self.summary["ceiling"]
        width = max(map(len, SCORE_TITLES.values()))
        lines = [f"{'':{width}}  {'score':>8}  perfect foreground"]
        for key, name in SCORE_TITLES.items():
            if key in scores:
                limit = _format(ceiling[key]) if key in ceiling else ""
                lines.append(f"{name:{width}}  {_format(scores[key]):>8}  {limit:>8}".rstrip())
        return "\n".join(lines + self._class_lines() + self._case_lines())

    def _case_lines(self) -> list[str]:
        """Return what makes the scores doubtful, cases without a prediction, and predictions left out."""
        missing = [f"{case}: {reason}" for case, reason in self.summary["missing"].items()]
        counted = MISSING_COUNT.get(self.summary["missing_policy"], "")
        groups = {
            f"cases without a prediction, {counted}": missing,
            "predictions without a reference, left out": self.summary["extra"],
        }
        lists = [join_problems(title, cases, most=_MOST_LISTED) for title, cases in groups.items() if cases]
        compared = f"{self.summary['cases']} {'case' if self.summary['cases'] == 1 else 'cases'} compared"
        return [compared, *(f"note: {note}" for note in self.summary["notes"]), *lists]

    def _class_lines(self) -> list[str]:
        """Return a table of the classes; nothing without classes."""
        classes: dict[str, dict[str, float | None]] = self.summary["classes"]
        if not classes:
            return []
        columns = [key for key in ("reference", *OF_CLASS, "ap50") if key in next(iter(classes.values()))]
        width = max(map(len, classes))
        lines = ["", f"{'class':{width}}  " + "  ".join(f"{_CLASS_COLUMNS[key]:>9}" for key in columns)]
        for name, row in classes.items():
            lines.append(f"{name:{width}}  " + "  ".join(f"{_format(row[key]):>9}" for key in columns))
        return lines


def evaluate_objects(
    predictions: Path | str,
    references: Path | str,
    output: Path | str | None = None,
    *,
    suffixes: Suffixes | None = None,
    ignore_value: int | None = None,
    missing: MissingPolicy = "error",
    extra: ExtraPolicy = "error",
    jobs: int | None = None,
    progress: Progress = QUIET,
) -> ObjectEvaluation:
    """Compare label maps whose values number the objects; cases are compared in parallel.

    The average precision and FROC need scores: those of ``instances/CASE.csv``, as ``medseg infer`` writes it,
    in the folder of the predictions. Classes are compared where both sides have them: in such tables, or in a
    dataset.

    Args:
        predictions: folder of label maps, or one file.
        references: folder of reference label maps, one file, or a dataset in any layout (COCO, GeoJSON, a file
            for each object, ``images/`` and ``labels/``).
        output: folder for ``objects.csv`` and ``objects.json``; None: no file is written. The files of an
            earlier comparison are replaced, once there are new ones.
        suffixes: what names of files add to names of cases.
        ignore_value: value of reference voxels that do not count.
        missing: whether cases without a prediction are an error, are left out (``ignore``), or count as cases
            without predicted objects (``worst``).
        extra: whether predictions of a folder that have no reference are an error, or are left out and listed.
        jobs: most cases at a time; None: the number of cores. Memory limits them, too.
        progress: advances with each case.

    Raises:
        DataError: if a path does not exist, a case has no prediction (with ``missing="error"``), a prediction
            no reference (with ``extra="error"``), two have the name of one case, or no case can be compared.
        ConfigError: if every prediction is the same file as its reference, or ``ignore_value`` is 0.
        ExistingFileError: if ``output`` has tables of another origin.
    """
    predictions, references = Path(predictions), Path(references)
    check_exists(predictions, references)
    if ignore_value == 0:
        raise ConfigError(
            "--ignore 0: 0 is background", hint="Without it, false objects on the background would not count."
        )
    suffixes = suffixes or Suffixes(None, None)
    if output is not None:
        OBJECTS_OUTPUT.check(Path(output), report=False)
    with OBJECTS_OUTPUT.naming_earlier(None if output is None else Path(output)):
        paired = pair_objects(predictions, references, suffixes, ignore_value, extra)
        paired = paired.with_missing(missing)
    folder = paired.folder
    if (folder / "medseg.json").is_file() and not (folder / "instances").is_dir():
        _LOGGER.warning(
            "%s: medseg infer wrote these label maps with a model of classes: all voxels of one value count as "
            "one object. Use a model that tells objects apart (data.instances=keep).",
            folder,
        )
    names = predictions.name, references.name
    return compare_objects(paired, output, names=names, jobs=jobs, progress=progress)


def compare_objects(
    paired: PairedObjects,
    output: Path | str | None = None,
    *,
    names: tuple[str, str],
    jobs: int | None = None,
    progress: Progress = QUIET,
) -> ObjectEvaluation:
    """Compare objects whose files are paired already, as :func:`evaluate_objects` does.

    Args:
        paired: the files; cases without a prediction count as cases without predicted objects.
        output: folder of the tables; None: no file is written.
        names: of the predictions and the references, for the report.
        jobs: most cases compared at a time; None: the number of cores.
        progress: advances with each case.

    Raises:
        DataError: if no case can be compared.
        ExistingFileError: if ``output`` has tables of another origin.
    """
    folder = None if output is None else Path(output)
    with OBJECTS_OUTPUT.replacing(folder):
        evaluation = _evaluate(paired, names, jobs, progress)
    if folder is not None:
        write_table(folder / OBJECTS_TABLE, list(evaluation.rows[0]), evaluation.rows)
        write_json(folder / OBJECTS_SUMMARY, evaluation.summary)
    return evaluation


def _evaluate(
    paired: PairedObjects, names: tuple[str, str], jobs: int | None, progress: Progress
) -> ObjectEvaluation:
    """Compare all cases; see ``compare_objects``."""
    outcomes = _compare_all(paired, jobs, progress)
    compared = {case: one for case, one in outcomes.items() if isinstance(one, ComparedObjects)}
    failed = {case: one for case, one in outcomes.items() if isinstance(one, str)}
    if not compared:
        raise DataError(f"no case can be compared: {next(iter(failed.values()), 'there are none')}")
    rows = [{"case": case, **one.row()} for case, one in compared.items()]
    summary = summarize_objects(list(compared.values()))
    summary |= {"cases": len(rows), "missing": paired.missing, "missing_policy": paired.missing_policy}
    summary |= {"failed": failed, "extra": list(paired.extra)}
    summary["notes"] = [*_notes(list(compared.values()), paired), *_unscored(compared)]
    summary |= {"sources": {"predictions": names[0], "references": names[1]}, "definitions": _DEFINITIONS}
    return ObjectEvaluation(rows, summary, paired, compared)


def _compare_all(
    paired: PairedObjects, jobs: int | None, progress: Progress
) -> dict[str, ComparedObjects | str]:
    """Compare cases in parallel, in threads or, if there is much to do, in processes; an error is its text."""
    cases = sorted(paired.predictions)
    with stage(progress, len(cases), "comparing objects"):
        outcomes = run_jobs(
            _compare,
            [_job(case, paired) for case in cases],
            lambda item: progress.advance(item[0]),
            limit=jobs,
            on_error=lambda item, error: describe_error(error),
        )
    return dict(zip(cases, outcomes, strict=True))


def _job(case: str, paired: PairedObjects) -> Job[tuple[str, PairedObjects]]:
    voxels = declared_voxels(paired.reference_file(case))
    memory, seconds = _FIXED_BYTES + voxels * _VOXEL_BYTES, _FIXED_SECONDS + voxels * _VOXEL_SECONDS
    return Job((case, paired.only(case)), memory, seconds)


def _compare(item: tuple[str, PairedObjects]) -> ComparedObjects | str:
    """Compare the objects of one case."""
    case, paired = item
    expected, found = paired.read(case)
    ignored = expected.ignored
    overlaps = overlaps_of_label_maps(expected.numbers, found.numbers, ignored)
    kept = counted_objects(expected.numbers, found.numbers, ignored)
    scores = _scores(object_table(paired.folder, case), np.array(found.present, np.int64))
    names = expected.names(), found.names()
    known: tuple[list[str], list[str]] | None = None
    if names[0] is not None and names[1] is not None:
        known = list(compress(names[0], kept[0])), list(compress(names[1], kept[1]))
    ceiling = foreground_overlaps(expected.numbers, ignored)
    return ComparedObjects(overlaps, ceiling, None if scores is None else scores[kept[1]], known)


def _scores(table: Path, numbers: Array) -> Array | None:
    """Read the scores of numbered objects; None without a table that has all of them."""
    if not len(numbers):
        return np.zeros(0)
    known = read_score_table(table)
    if known is None:
        return None
    values = [known.get(int(number), math.nan) for number in numbers]
    return None if any(map(math.isnan, values)) else np.array(values)


def _notes(compared: Sequence[ComparedObjects], paired: PairedObjects) -> list[str]:
    """Return what makes the scores doubtful: copies of the references, masks of classes, JPEG files."""
    notes: list[str] = []
    lossy = [file for pair in paired.files() for file in pair if file.suffix.lower() in (".jpg", ".jpeg")]
    if lossy:
        notes.append(f"{lossy[0].name} is a JPEG file, which does not keep the numbers of objects")
    objects = [len(one.overlaps.reference_sizes) for one in compared]
    parts = sum(len(one.ceiling.predicted_sizes) for one in compared)
    if max(objects) <= 1 and parts > 2 * sum(objects):
        notes.append(
            f"no reference has more than one number, but they have {parts} connected parts: these are probably "
            "masks of a class, in which all objects count as one; expected a number for each object"
        )
    if sum(objects) and all(one.is_perfect for one in compared):
        copies = are_copies(paired.files())
        notes.append(
            "predictions are equal to the references in all cases: are these copies of the references?"
            if copies
            else "every object is matched exactly: are these the predictions that you want to evaluate?"
        )
    return notes


def _unscored(compared: Mapping[str, ComparedObjects]) -> list[str]:
    """Return why there is no average precision and no FROC; nothing if there are."""
    cases = [case for case, one in compared.items() if one.scores is None]
    if not cases:
        return []
    return [
        f"no average precision and no CPM: {len(cases)} of {len(compared)} cases have objects without a score "
        f"in instances/CASE.csv, the first is {cases[0]}"
    ]


def _format(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
