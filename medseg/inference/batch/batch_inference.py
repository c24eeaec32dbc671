"""Segment many cases with one model: finished cases are skipped, failures listed, files never incomplete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from medseg.data.cases import Case
from medseg.inference.batch.case_job import CaseJob
from medseg.inference.batch.options import DEFAULTS, BatchOptions
from medseg.inference.batch.outputs.dicom_objects import check_dicom_sources
from medseg.inference.batch.outputs.files import CaseOutcome
from medseg.inference.batch.outputs.folder import open_output
from medseg.inference.model.protocols import PreparedT, Segmenter
from medseg.progress import QUIET, Progress, stage

_LOGGER = logging.getLogger(__name__)

_Settle = Callable[[CaseJob[PreparedT], CaseOutcome], None]


def infer_cases(
    predictor: Segmenter[PreparedT],
    cases: Sequence[Case],
    output: Path | str,
    options: BatchOptions = DEFAULTS,
    *,
    progress: Progress = QUIET,
) -> list[CaseOutcome]:
    """Segment cases and write the results to an output folder.

    Writes ``<case>.<ext>``, ``medseg.json``, ``provenance/<case>.json`` and, if requested, ``probabilities/``,
    ``overlays/`` and ``dicom/``. The outputs of a case are written together or not at all. A case that fails,
    also for lack of memory (after a second attempt with less), is listed in ``failures.csv``; the others go on.
    Scans and results that differ from the training are listed in ``warnings.csv``.

    A case whose result exists, from the same input, models and settings, is skipped. A result of other inputs
    or settings is kept, unless ``options.overwrite`` is set: then it is replaced, or removed if the case fails.
    Input files, and files that medseg did not write, are never replaced.

    While the network processes one case, the next one is read and the previous one is written.

    Args:
        predictor: the model, such as a :class:`~medseg.Predictor`.
        cases: the cases; their ids name the files.
        output: output folder; one process writes to it at a time.
        options: outputs, their layout, and the handling of existing results.
        progress: receives each case when it ends; its outcome is also logged.

    Returns:
        One outcome per case, in the order of ``cases``.

    Raises:
        ConfigError: the folder cannot take these cases (see ``open_output``), or DICOM objects are requested
            that cannot be written.
        DiskFullError: no space is left for an output.
        ConversionError: a network cannot be converted for the requested backend.

    Example:
        >>> from medseg import Predictor  # doctest: +SKIP
        >>> outcomes = infer_cases(Predictor("runs/liver"), cases, "predictions")  # doctest: +SKIP
        >>> [outcome.case for outcome in outcomes if outcome.status == "failed"]  # doctest: +SKIP
        []
    """
    output = Path(output)
    check_dicom_sources(cases, options.dicom)
    outcomes: list[CaseOutcome] = []

    def finish(outcome: CaseOutcome) -> None:
        outcomes.append(outcome)
        report_outcome(outcome, progress)

    with (
        open_output(predictor, cases, output, options, outcomes),
        stage(progress, len(cases), "segmenting cases"),
    ):
        _run_jobs([CaseJob(predictor, case, output, options) for case in cases], finish)
    return sort_outcomes(outcomes, cases)


def infer_case(segmenter: Segmenter[PreparedT], case: Case, output: Path, options: BatchOptions) -> CaseOutcome:
    """Segment one case into an output folder that another process holds (``open_output``)."""
    return CaseJob(segmenter, case, output, options).run()


def report_outcome(outcome: CaseOutcome, progress: Progress) -> None:
    """Log an outcome and count it as progress.

    Kept results are logged at level DEBUG: there may be many for one reason, which the caller reports once.
    """
    levels = {"failed": logging.ERROR, "kept": logging.DEBUG}
    level = levels.get(outcome.status, logging.WARNING if outcome.warnings else logging.INFO)
    _LOGGER.log(level, "%s", outcome.describe())
    progress.advance(outcome.case)


def sort_outcomes(outcomes: Sequence[CaseOutcome], cases: Sequence[Case]) -> list[CaseOutcome]:
    """Sort outcomes in the order of their cases."""
    order = {case.id: index for index, case in enumerate(cases)}
    return sorted(outcomes, key=lambda outcome: order[outcome.case])


def _run_jobs(jobs: list[CaseJob[PreparedT]], finish: Callable[[CaseOutcome], None]) -> None:
    """Run jobs in a pipeline; run those that ran out of memory once more at the end, one at a time."""
    out_of_memory: list[tuple[CaseJob[PreparedT], CaseOutcome]] = []

    def settle(job: CaseJob[PreparedT], outcome: CaseOutcome) -> None:
        if outcome.out_of_memory and len(jobs) > 1:
            out_of_memory.append((job, outcome))
        else:
            finish(outcome)

    try:
        _run_pipeline(jobs, settle)
        while out_of_memory:
            outcome = out_of_memory[0][0].run()
            out_of_memory.pop(0)
            finish(outcome)
    finally:
        for _, outcome in out_of_memory:  # stopped before the second attempt
            finish(outcome)


def _start_thread(name: str) -> ThreadPoolExecutor:
    """Return a pool of one thread that runs already: later, there may not be enough memory to start it."""
    pool = ThreadPoolExecutor(1, name)
    pool.submit(int).result()
    return pool


def _run_pipeline(jobs: list[CaseJob[PreparedT]], settle: _Settle[PreparedT]) -> None:
    """Read the next case and write the previous one while the network processes a case."""
    with _start_thread("medseg-read") as reader, _start_thread("medseg-write") as writer:
        reading = reader.submit(jobs[0].read) if jobs else None
        writing: tuple[CaseJob[PreparedT], Future[CaseOutcome]] | None = None
        try:
            for index, job in enumerate(jobs):
                assert reading is not None
                prepared = reading.result()
                reading = reader.submit(jobs[index + 1].read) if index + 1 < len(jobs) else None
                computed = job.compute(prepared)
                del prepared  # free its memory before the next case is computed
                if writing is not None:
                    settle(writing[0], writing[1].result())
                writing = job, writer.submit(job.write, computed)
                del computed
            if writing is not None:
                settle(writing[0], writing[1].result())
        except BaseException:  # also when interrupted: keep the result that is being written
            if writing is not None and writing[1].exception() is None:
                settle(writing[0], writing[1].result())
            raise
