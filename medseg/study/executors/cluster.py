"""What executors of clusters have in common: jobs that run cells elsewhere, on a shared file system."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from medseg.errors import StudyStopped
from medseg.study.executors import process
from medseg.study.executors.protocol import CellCommand, CellResult
from medseg.study.executors.state import CellState, read_state, write_job, write_state
from medseg.system.processes.signals import collect_stop_signals

STOP_FILE = "stop"
"""File that asks the job of a cell to save its state and to end."""

_EXTRA_SECONDS = 10.0
"""Time to see the end of a job, after it had time to save."""


class ClusterJob(Protocol):
    """The job of a cell."""

    def done(self) -> bool:
        """Return whether the job has ended, in whatever way."""
        ...

    def result(self) -> CellResult:
        """Return the result of a job that has ended. Raises an exception if it was lost."""
        ...

    def cancel(self) -> None:
        """End the job, or take it out of the queue."""
        ...


def run_cell_as_job(cell: CellCommand) -> CellResult:
    """Run a cell in a process that a cluster started; a file ``stop`` in its folder ends it after saving."""
    stop = cell.folder / STOP_FILE
    if stop.exists():
        return CellResult(cell, None, stopped=True)
    return process.run_cell(cell, stop=stop.exists)


def prepare_for_queue(cell: CellCommand) -> CellCommand:
    """Record that a cell waits, and return it with a command that other machines can run."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / STOP_FILE).unlink(missing_ok=True)
    write_state(cell.folder, CellState("waiting"))
    write_job(cell.folder, "")
    folder = Path(cell.folder).absolute()
    return replace(cell, command=tuple(cell.arguments()), folder=folder)


def wait_for_jobs(
    cells: Sequence[CellCommand],
    jobs: Sequence[ClusterJob],
    report: Callable[[CellResult], None] | None,
    poll_seconds: float,
) -> list[CellResult]:
    """Wait for the end of all jobs.

    Raises:
        StudyStopped: on SIGTERM or SIGINT, after all jobs were ended.
    """
    results: dict[int, CellResult] = {}
    with collect_stop_signals() as signals:
        try:
            while len(results) < len(jobs) and not signals:
                for index, job in enumerate(jobs):
                    if index not in results and job.done():
                        results[index] = _result(cells[index], job)
                        if report is not None:
                            report(results[index])
                if len(results) < len(jobs) and not signals:
                    time.sleep(poll_seconds)
        finally:
            left = [(cells[i], job) for i, job in enumerate(jobs) if i not in results]
            _stop_jobs(left, poll_seconds)
    if signals:
        raise StudyStopped(signals[0])
    return [results[index] for index in range(len(jobs))]


def _result(cell: CellCommand, job: ClusterJob) -> CellResult:
    """Return the result of a job; one that was lost has failed, which its log says."""
    try:
        return replace(job.result(), cell=cell)
    except Exception as error:  # the queue killed it: memory, time, a broken node
        state = read_state(cell.folder)
        seconds = state.elapsed
        with cell.log.open("a", encoding="utf-8") as log:
            log.write(f"\nthe job was lost: {error}\n")
        failed = replace(state, status="failed", exit_code=1, seconds=seconds, process="")
        write_state(cell.folder, failed)
        return CellResult(cell, 1, seconds)


def _stop_jobs(jobs: Sequence[tuple[CellCommand, ClusterJob]], poll_seconds: float) -> None:
    """Let running jobs save their state, and take the others out of the queue."""
    for cell, job in jobs:
        (cell.folder / STOP_FILE).touch()
        if read_state(cell.folder).status == "waiting":
            job.cancel()
    end = time.monotonic() + process.GRACE_SECONDS + _EXTRA_SECONDS
    while time.monotonic() < end and any(read_state(cell.folder).status == "running" for cell, _ in jobs):
        time.sleep(poll_seconds)
    for cell, job in jobs:
        job.cancel()
        if (state := read_state(cell.folder)).status == "running":
            write_state(cell.folder, replace(state, status="stopped", process=""))
