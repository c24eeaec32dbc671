"""Comparison of many cases in parallel; a case that fails does not end the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medseg.data.parallel import Job, run_jobs
from medseg.errors import DataError, MedsegError
from medseg.evaluation.case_comparison import CaseComparer, CaseComparison
from medseg.evaluation.voxel_count import declared_voxels
from medseg.progress import QUIET, Progress, stage

_VOXEL_BYTES = 48
"""Approximate memory per voxel while a case is compared: two label maps as stored and encoded, and masks."""
_PROBABILITY_BYTES = 12
"""The same, per class, if the calibration is computed."""
_FIXED_BYTES = 100 << 20
_VOXEL_SECONDS, _FIXED_SECONDS = 3e-7, 0.02
"""Approximate time on one core."""


@dataclass(frozen=True)
class CaseTask:
    """A case to compare.

    Attributes:
        case: name of the case.
        reference: file of the reference.
        prediction: file of the prediction; None if the case is missing.
        reason: why there is no prediction.
    """

    case: str
    reference: Path
    prediction: Path | None = None
    reason: str = ""


@dataclass(frozen=True)
class CaseOutcome:
    """Result of one case.

    Attributes:
        comparison: the scores, or the worst ones if the policy asks for them; None without scores.
        error: why the case could not be compared; None if it could, or is only missing.
    """

    comparison: CaseComparison | None
    error: str | None = None


def compare_cases(
    tasks: Sequence[CaseTask], comparer: CaseComparer, jobs: int | None, progress: Progress = QUIET
) -> list[CaseOutcome]:
    """Compare cases in parallel, in threads or, if there is much to do, in processes.

    Args:
        tasks: the cases.
        comparer: labels and options.
        jobs: most cases at a time. If None, the number of cores.
        progress: advances with each case.

    Returns:
        The outcomes in the order of the tasks.
    """
    with stage(progress, len(tasks), "comparing cases"):
        return run_jobs(
            partial(compare_case, comparer=comparer),
            [_job(task, comparer) for task in tasks],
            lambda task: progress.advance(task.case),
            limit=jobs,
            on_error=lambda task, error: _after_failure(task, comparer, error),
        )


def compare_case(task: CaseTask, comparer: CaseComparer) -> CaseOutcome:
    """Compare one case; an error of any kind becomes part of the outcome."""
    if task.prediction is None:
        return _worst(task, comparer, None)
    try:
        return CaseOutcome(comparer.compare(task.case, task.prediction, task.reference))
    except Exception as error:  # a damaged file can make a library raise anything; the case is listed
        return _after_failure(task, comparer, error)


def _after_failure(task: CaseTask, comparer: CaseComparer, error: Exception) -> CaseOutcome:
    return _worst(task, comparer, describe_error(error))


def _worst(task: CaseTask, comparer: CaseComparer, reason: str | None) -> CaseOutcome:
    """Give a case without a usable prediction the worst scores, if ``missing`` asks for them."""
    try:
        worst = comparer.options.missing == "worst"
        return CaseOutcome(comparer.score_worst(task.case, task.reference) if worst else None, reason)
    except Exception as error:  # the reference cannot be read
        return CaseOutcome(None, reason or describe_error(error))


def describe_error(error: Exception) -> str:
    """Return the text of an error, with its type if its text is not written for users."""
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, MedsegError):  # a process died; its hint concerns trainings
        return error.message
    if isinstance(error, MemoryError):
        return f"not enough memory ({error})" if str(error) else "not enough memory"
    return f"{type(error).__name__}: {error}"


def _job(task: CaseTask, comparer: CaseComparer) -> Job[CaseTask]:
    voxels = declared_voxels(task.reference)
    probabilities = "calibration" in comparer.options.metrics
    each = _VOXEL_BYTES + probabilities * _PROBABILITY_BYTES * len(comparer.labels.class_names)
    return Job(task, _FIXED_BYTES + voxels * each, _FIXED_SECONDS + voxels * _VOXEL_SECONDS)
