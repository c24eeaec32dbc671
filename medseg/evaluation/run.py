"""Comparison of folders of label maps with references: scores and status of every case."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cases import join_problems
from medseg.errors import ConfigError, DataError
from medseg.evaluation.compare import CaseComparer, CaseComparison, check_columns
from medseg.evaluation.labels import resolve_labels
from medseg.evaluation.options import DEFAULT_OPTIONS, EvaluationOptions, MissingPolicy
from medseg.evaluation.pairing import MissingCase, Pairing, check_exists, pair_cases
from medseg.metrics import IntArray, Unit, dataset_scores, summarize, write_csv, write_summary
from medseg.metrics.tables.summary import IDENTITY

CASES_FILE = "cases.csv"
SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a set of predictions.

    Attributes:
        rows: one dict per case and label, as in ``cases.csv``; scores of cases left out are nan.
        summary: content of ``summary.json``.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def missing(self) -> dict[str, str]:
        """Cases with a reference and without a prediction, with the reason."""
        return self.summary["coverage"]["missing"]

    @property
    def failed(self) -> dict[str, str]:
        """Cases that could not be compared, with the reason."""
        return self.summary["coverage"]["failed"]


def evaluate_cases(
    predictions: Path | str,
    references: Path | str,
    output: Path | str | None = None,
    options: EvaluationOptions = DEFAULT_OPTIONS,
) -> Evaluation:
    """Compare label maps with references that have the same name.

    A case that cannot be compared (unreadable file, other grid, values without a name) is listed as failed, and
    the evaluation continues. ``options.missing`` decides about cases without a prediction.

    Args:
        predictions: folder of label maps, or one file. ``medseg.json`` in the folder names the labels,
            ``requested.json`` lists the cases that were to be predicted.
        references: folder of reference label maps, searched recursively, or one file.
        output: folder for ``cases.csv`` and ``summary.json``. If None, no file is written. Tables of an earlier
            evaluation are removed first, so that a failed evaluation does not leave them behind.
        options: labels, missing cases, tolerance.

    Raises:
        DataError: if a path does not exist, a prediction has no reference, cases are missing (with
            ``missing="error"``), or no case can be scored.
        ConfigError: if the labels cannot be guessed, or ``output`` contains other tables.

    Example:
        >>> evaluation = evaluate_cases("predictions", "labels", "metrics")  # doctest: +SKIP
        >>> evaluation.summary["overall"]["mean_dice"]["mean"]  # doctest: +SKIP
        0.91
    """
    predictions, references = Path(predictions), Path(references)
    if output is not None:
        _check_output(Path(output))
        check_exists(predictions, references)
        _remove_tables(Path(output))
    pairing = pair_cases(predictions, references, options.label_suffix)
    if options.missing == "error" and pairing.missing:
        raise DataError(
            _missing_message(pairing),
            hint="Predict these cases, count them with --missing worst (Dice 0, infinite distances), leave "
            "them out with --missing ignore, or give a folder that contains only the references you need.",
        )
    folder = predictions if predictions.is_dir() else predictions.parent
    labels = resolve_labels(options, folder, _references(pairing))
    scores = _ScoreCollector(CaseComparer(labels, options))
    for case in sorted({*pairing.pairs, *pairing.missing}):
        if case in pairing.missing:
            scores.add_missing(case, pairing.missing[case])
        else:
            scores.add(case, *pairing.pairs[case])
    evaluation = scores.result(pairing)
    if output is not None:
        write_csv(Path(output) / CASES_FILE, evaluation.rows)
        write_summary(Path(output) / SUMMARY_FILE, evaluation.summary)
    return evaluation


@dataclass
class _ScoreCollector:
    """Collects the scores of the cases."""

    comparer: CaseComparer
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    status: dict[str, str] = field(default_factory=dict[str, str])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    matrix: IntArray = field(init=False)
    unpredicted: IntArray = field(init=False)
    unit: Unit | None = None

    def __post_init__(self) -> None:
        size = len(self.comparer.labels.names)
        self.matrix, self.unpredicted = np.zeros((size, size), np.int64), np.zeros(size, np.int64)

    def add(self, case: str, prediction: Path, reference: Path) -> None:
        """Compare a prediction; if that fails, list the case as failed."""
        try:
            self._record(case, self.comparer.compare(case, prediction, reference), "scored")
        except DataError as error:
            self.failed[case] = str(error)
            if self.comparer.options.missing == "worst":
                self._record_worst(case, reference, "failed")

    def add_missing(self, case: str, missing: MissingCase) -> None:
        """List a case without a prediction and score it according to the policy."""
        self.missing[case] = missing.reason
        if self.comparer.options.missing == "worst":
            self._record_worst(case, missing.reference, "missing")

    def result(self, pairing: Pairing) -> Evaluation:
        """Return the rows and the summary of all cases.

        Raises:
            DataError: if no case has scores.
        """
        if not self.rows:
            problems = [f"case {case}: {reason}" for case, reason in (self.failed | self.missing).items()]
            raise DataError(join_problems("no case can be scored", problems))
        labels, options = self.comparer.labels, self.comparer.options
        scored = [row for rows in self.rows.values() for row in rows]
        dataset = None
        if not labels.regions:
            dataset = dataset_scores(self.matrix, list(labels.names), unpredicted=self.unpredicted)
        summary = summarize(scored, options.scores, dataset=dataset, unit=self.unit or "mm")
        return Evaluation(self._all_rows(), {"coverage": self._coverage(pairing), **summary})

    def _all_rows(self) -> list[dict[str, Any]]:
        """Return the rows of all cases, including those without scores, with their status."""
        keys = list(next(iter(self.rows.values()))[0])
        cases = sorted({*self.rows, *self.failed, *self.missing})
        all_rows: list[dict[str, Any]] = []
        for case in cases:
            status = self.status.get(case) or ("failed" if case in self.failed else "missing")
            rows = self.rows.get(case) or self.comparer.blank_rows(case, keys)
            order = [*IDENTITY, *(key for key in keys if key not in IDENTITY)]
            all_rows += [{key: status if key == "status" else row[key] for key in order} for row in rows]
        return all_rows

    def _coverage(self, pairing: Pairing) -> dict[str, Any]:
        policy: MissingPolicy = self.comparer.options.missing
        return {
            "references": pairing.references,
            "scored": sum(status == "scored" for status in self.status.values()),
            "not_requested": len(pairing.not_requested),
            "missing_policy": policy,
            "missing": self.missing,
            "failed": self.failed,
        }

    def _record(self, case: str, comparison: CaseComparison, status: str) -> None:
        if self.rows:
            check_columns(list(comparison.rows[0]), list(next(iter(self.rows.values()))[0]))
        self.unit = comparison.unit
        self.rows[case], self.status[case] = comparison.rows, status
        self.matrix += comparison.matrix
        self.unpredicted += comparison.unpredicted

    def _record_worst(self, case: str, reference: Path, status: str) -> None:
        try:
            self._record(case, self.comparer.score_worst(case, reference), status)
        except DataError as error:  # the reference cannot be read
            self.failed.setdefault(case, str(error))


def _references(pairing: Pairing) -> list[Path]:
    return [reference for _, reference in pairing.pairs.values()] + [
        missing.reference for missing in pairing.missing.values()
    ]


def _missing_message(pairing: Pairing) -> str:
    problems = [f"{case}: {missing.reason}" for case, missing in pairing.missing.items()]
    total = (
        f"{pairing.references} references"
        if pairing.requested is None
        else f"{pairing.requested} requested cases"
    )
    verb = "has" if len(problems) == 1 else "have"
    return join_problems(
        f"{len(problems)} of {total} {verb} no prediction; a mean over the other cases is too optimistic",
        problems,
    )


def _check_output(output: Path) -> None:
    """Raise ConfigError if the folder is not writable or contains tables of another origin."""
    above = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ConfigError(f"{above}: is a file, expected a folder", hint="Choose another --output.", path=above)
    if not os.access(above, os.W_OK):
        raise ConfigError(f"{above}: not writable", hint="Choose another --output.", path=above)
    for path, is_ours in ((output / CASES_FILE, _is_our_table), (output / SUMMARY_FILE, _is_our_summary)):
        if path.exists() and not is_ours(path):
            raise ConfigError(
                f"{path}: exists and was not written by medseg evaluate",
                hint="Choose another --output, or move the file.",
                path=path,
            )


def _remove_tables(output: Path) -> None:
    for name in (CASES_FILE, SUMMARY_FILE):
        (output / name).unlink(missing_ok=True)


def _is_our_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header = next(csv.reader(stream), list[str]())
            return header[:3] == list(IDENTITY[:3])
    except (OSError, ValueError, csv.Error):
        return False


def _is_our_summary(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, Mapping) and "definitions" in content
