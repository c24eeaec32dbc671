"""Folders of label maps against references: scores of every case, and what became of each."""

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
from medseg.evaluation.compare import Compared, Comparer, check_columns
from medseg.evaluation.labels import resolve_labels
from medseg.evaluation.options import DEFAULT_OPTIONS, EvaluationOptions, MissingPolicy
from medseg.evaluation.pairing import MissingCase, Pairing, pair_cases
from medseg.metrics import dataset_scores, summarize, write_csv, write_summary
from medseg.metrics.confusion import IntArray
from medseg.metrics.tables.case_rows import Unit
from medseg.metrics.tables.summary import IDENTITY

CASES_FILE = "cases.csv"
SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a set of predictions.

    Attributes:
        rows: one dict a case and label, as in ``cases.csv``; scores of cases left out are nan.
        summary: as in ``summary.json``.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def missing(self) -> dict[str, str]:
        """Cases with a reference and without a prediction, and why."""
        return self.summary["coverage"]["missing"]

    @property
    def failed(self) -> dict[str, str]:
        """Cases that could not be compared, and why."""
        return self.summary["coverage"]["failed"]


def evaluate_cases(
    predictions: Path | str,
    references: Path | str,
    output: Path | str | None = None,
    options: EvaluationOptions = DEFAULT_OPTIONS,
) -> Evaluation:
    """Compare every label map in ``predictions`` with its reference, found by name.

    A case that cannot be compared (an unreadable file, another grid, values without a name) is listed as
    failed, and the others go on. What cases without a prediction mean is ``options.missing``.

    Args:
        predictions: folder of label maps, or one file; ``medseg.json`` beside them names the labels, and
            ``requested.json`` the cases they were to hold.
        references: folder of reference label maps, searched below too, or one file.
        output: folder for ``cases.csv`` and ``summary.json``; none writes nothing.
        options: labels, missing cases, tolerance.

    Raises: DataError if a path is not there, a prediction has no reference, cases are missing (with
    ``missing="error"``) or none can be scored; ConfigError if the labels cannot be guessed, or ``output``
    holds other tables.
    """
    predictions, references = Path(predictions), Path(references)
    if output is not None:
        _check_output(Path(output))
    pairing = pair_cases(predictions, references, options.label_suffix)
    if options.missing == "error" and pairing.missing:
        raise DataError(_missing_message(pairing))
    folder = predictions if predictions.is_dir() else predictions.parent
    labels = resolve_labels(options, folder, _references(pairing))
    scores = _Scores(Comparer(labels, options))
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
class _Scores:
    """The scores of the cases so far."""

    comparer: Comparer
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    matrix: IntArray = field(init=False)
    unpredicted: IntArray = field(init=False)
    unit: Unit | None = None

    def __post_init__(self) -> None:
        size = len(self.comparer.labels.names)
        self.matrix, self.unpredicted = np.zeros((size, size), np.int64), np.zeros(size, np.int64)

    def add(self, case: str, prediction: Path, reference: Path) -> None:
        """Compare a prediction; what is wrong with it is listed."""
        try:
            self._take(case, self.comparer.compare(case, prediction, reference), "scored")
        except DataError as error:
            self.failed[case] = str(error)
            if self.comparer.options.missing == "worst":
                self._take_worst(case, reference, "failed")

    def add_missing(self, case: str, missing: MissingCase) -> None:
        """List a case without a prediction, and score it as the policy says."""
        self.missing[case] = missing.reason
        if self.comparer.options.missing == "worst":
            self._take_worst(case, missing.reference, "missing")

    def result(self, pairing: Pairing) -> Evaluation:
        """The rows of all cases and their summary. Raises: DataError if no case has scores."""
        if not self.rows:
            problems = [f"case {case}: {reason}" for case, reason in (self.failed | self.missing).items()]
            raise DataError(join_problems("no case can be scored", problems))
        labels, options = self.comparer.labels, self.comparer.options
        scored = [row for rows in self.rows.values() for row in rows]
        dataset = None
        if not labels.regions:
            dataset = dataset_scores(self.matrix, list(labels.names), unpredicted=self.unpredicted)
        summary = summarize(
            scored, surface=options.surface, tolerance_mm=options.tolerance, dataset=dataset,
            unit=self.unit or "mm",
        )  # fmt: skip
        return Evaluation(self._all_rows(), {"coverage": self._coverage(pairing), **summary})

    def _all_rows(self) -> list[dict[str, Any]]:
        """The rows of every case, those without scores too, each with its status."""
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

    def _take(self, case: str, compared: Compared, status: str) -> None:
        if self.rows:
            check_columns(list(compared.rows[0]), list(next(iter(self.rows.values()))[0]))
        self.unit = compared.unit
        self.rows[case], self.status[case] = compared.rows, status
        self.matrix += compared.matrix
        self.unpredicted += compared.unpredicted

    def _take_worst(self, case: str, reference: Path, status: str) -> None:
        try:
            self._take(case, self.comparer.score_worst(case, reference), status)
        except DataError as error:  # the reference itself cannot be read
            self.failed.setdefault(case, str(error))


def _references(pairing: Pairing) -> list[Path]:
    return [reference for _, reference in pairing.pairs.values()] + [
        missing.reference for missing in pairing.missing.values()
    ]


def _missing_message(pairing: Pairing) -> str:
    problems = [f"{case}: {missing.reason}" for case, missing in pairing.missing.items()]
    return join_problems(
        f"{len(problems)} of {pairing.references} references have no usable prediction; a mean without them "
        "looks too good. Predict these cases, count them with --missing worst (Dice 0, infinite distances), "
        "leave them out with --missing ignore, or name a folder of the references you want",
        problems,
    )


def _check_output(output: Path) -> None:
    """Raises: ConfigError if the tables cannot be written there, or would replace files of another kind."""
    above = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ConfigError(f"{above}: is a file; --output names a folder for the tables")
    if not os.access(above, os.W_OK):
        raise ConfigError(f"{above}: you may not write there; choose another --output")
    for path, ours in ((output / CASES_FILE, _is_our_table), (output / SUMMARY_FILE, _is_our_summary)):
        if path.exists() and not ours(path):
            raise ConfigError(
                f"{path}: exists and was not written by medseg evaluate; choose another --output, or move it"
            )


def _is_our_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return next(csv.reader(stream), [])[:3] == list(IDENTITY[:3])
    except (OSError, ValueError, csv.Error):
        return False


def _is_our_summary(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, Mapping) and "definitions" in content
