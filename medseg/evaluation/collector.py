"""Scores of all cases, brought together into rows and a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from medseg.data.cases import join_problems
from medseg.errors import DataError
from medseg.evaluation.case_comparison import CaseComparer, CaseComparison, check_columns
from medseg.evaluation.pairing import Pairing, are_copies
from medseg.evaluation.parallel_cases import CaseOutcome, CaseTask
from medseg.metrics import IntArray, ReliabilityCurve, Unit, dataset_scores, summarize
from medseg.metrics.tables.columns import IDENTITY
from medseg.system.version import medseg_version

_LIBRARIES = ("numpy", "scipy", "scikit-image", "connected-components-3d")


@dataclass
class ScoreCollector:
    """Collects the scores of the cases.

    Attributes:
        comparer: labels and options that all cases were compared with.
        comparisons: scores of the cases that have some, by case.
        missing: cases without a prediction, with the reason.
        failed: cases that could not be compared, with the reason.
    """

    comparer: CaseComparer
    comparisons: dict[str, CaseComparison] = field(default_factory=dict[str, CaseComparison])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    failed: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, task: CaseTask, outcome: CaseOutcome) -> None:
        """Add the outcome of a case; one whose table has other columns than earlier cases has failed."""
        if task.prediction is None:
            self.missing[task.case] = task.reason
        if outcome.error is not None:
            self.failed[task.case] = outcome.error
        if outcome.comparison is None:
            return
        try:
            if self.comparisons:
                check_columns(list(outcome.comparison.rows[0]), self._columns)
        except DataError as error:
            self.failed.setdefault(task.case, str(error))
        else:
            self.comparisons[task.case] = outcome.comparison

    def status(self, case: str) -> str:
        """Return whether a case was scored, is missing or has failed."""
        if case in self.missing:
            return "missing" if case in self.comparisons or case not in self.failed else "failed"
        return "failed" if case in self.failed else "scored"

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of all cases with their status; scores of cases without any are nan."""
        order = [*IDENTITY, *(key for key in self._columns if key not in IDENTITY)]
        every: list[dict[str, Any]] = []
        for case in sorted({*self.comparisons, *self.failed, *self.missing}):
            found = self.comparisons.get(case)
            rows = found.rows if found else self.comparer.blank_rows(case, self._columns)
            status = self.status(case)
            every += [{key: status if key == "status" else row[key] for key in order} for row in rows]
        return every

    def summary(self, pairing: Pairing) -> dict[str, Any]:
        """Return the content of ``summary.json``.

        Raises:
            DataError: if no case has scores.
        """
        if not self.comparisons:
            problems = [f"case {case}: {reason}" for case, reason in (self.failed | self.missing).items()]
            raise DataError(join_problems("no case can be scored", problems))
        options = self.comparer.options
        scored = [row for comparison in self.comparisons.values() for row in comparison.rows]
        summary = summarize(
            scored, self.comparer.scores, unit=self._unit, misses=options.misses, dataset=self._dataset()
        )
        curves = [one.reliability for one in self.comparisons.values() if one.reliability is not None]
        calibration = {"calibration": _calibration(curves)} if curves else {}
        return {
            "coverage": self._coverage(pairing),
            "notes": self._notes(pairing),
            **summary,
            **calibration,
            "cases": {
                case: self._case(case) for case in sorted({*self.comparisons, *self.failed, *self.missing})
            },
            "provenance": provenance(),
        }

    @property
    def _columns(self) -> list[str]:
        return list(next(iter(self.comparisons.values())).rows[0])

    @property
    def _unit(self) -> Unit:
        return next(iter(self.comparisons.values())).unit

    def _dataset(self) -> dict[str, Any] | None:
        """Return the scores over all pixels together, with their confusion matrix; None for regions."""
        labels = self.comparer.labels
        if labels.regions:
            return None
        names = list(labels.names)
        matrix, unpredicted = np.zeros((len(names), len(names)), np.int64), np.zeros(len(names), np.int64)
        for comparison in self.comparisons.values():
            matrix += comparison.matrix
            unpredicted += comparison.unpredicted
        counts: Mapping[str, IntArray] = {"confusion": matrix, "unpredicted": unpredicted}
        scores = dataset_scores(matrix, names, unpredicted=unpredicted)
        return scores | {"classes": names} | {key: value.tolist() for key, value in counts.items()}

    def _coverage(self, pairing: Pairing) -> dict[str, Any]:
        scored = sum(self.status(case) == "scored" for case in self.comparisons)
        return {
            "references": pairing.references,
            "scored": scored,
            "not_requested": len(pairing.not_requested),
            "extra": list(pairing.extra),
            "missing_policy": self.comparer.options.missing,
            "missing": self.missing,
            "failed": self.failed,
            "unscored": sorted({*self.missing, *self.failed} - self.comparisons.keys()),
        }

    def _notes(self, pairing: Pairing) -> list[str]:
        """Return what makes the scores doubtful: predictions that are the references."""
        scored = [case for case in self.comparisons if self.status(case) == "scored"]
        dice = [row["dice"] for case in scored for row in self.comparisons[case].rows]
        defined = [one for one in dice if not math.isnan(one)]
        single_picture = len(scored) == 1 and len(self.comparisons[scored[0]].shape) < 3
        if not defined or min(defined) < 1 or single_picture:
            return []
        where = f"all {len(scored)} cases" if len(scored) > 1 else "the only case"
        if are_copies(pairing.pairs[case] for case in scored):
            return [f"predictions are equal to the references in {where}: are these copies of the references?"]
        return [f"every Dice is 1 in {where}: are these the predictions that you want to evaluate?"]

    def _case(self, case: str) -> dict[str, Any]:
        found = self.comparisons.get(case)
        geometry = {"shape": found.shape, "spacing": found.spacing, "diagonal": found.diagonal} if found else {}
        return {"status": self.status(case), **geometry}


def _calibration(curves: Sequence[ReliabilityCurve]) -> dict[str, Any]:
    """Return the calibration of the most probable class over the voxels of all cases together."""
    curve = sum(curves[1:], start=curves[0])
    bins = [{("n" if key == "size" else key): value for key, value in one.items()} for one in curve.bins()]
    return {"ece": curve.ece, "mce": curve.mce, "reliability": bins}


def provenance() -> dict[str, str]:
    """Return the versions of medseg and of the libraries that compute the scores, and the time (UTC)."""
    versions = {"medseg": medseg_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions | {"created": datetime.now(UTC).isoformat(timespec="seconds")}
