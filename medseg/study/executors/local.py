"""Executor for this machine: several processes at a time, each with its share of cores and GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event

from medseg.errors import ConfigError, StudyStopped
from medseg.study.executors.process import run_cell
from medseg.study.executors.protocol import CellCommand, CellResult
from medseg.study.executors.shares import Share, deal_out
from medseg.system.processes.cores import usable_core_numbers
from medseg.system.processes.signals import collect_stop_signals

_POLL_SECONDS = 0.2


class LocalExecutor:
    """Runs commands on this machine.

    The processes end with this one, in whatever way it ends. On SIGTERM and SIGINT they are asked to save
    their state first.

    Args:
        jobs: number of commands that run at the same time. They divide the cores that this process may run on,
            and the visible GPUs; one job uses all of them.
        gpus: the GPUs to divide, as in ``CUDA_VISIBLE_DEVICES``; by default all visible ones.

    Raises:
        ConfigError: if ``jobs`` is not positive.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     cell = CellCommand("hello", ("echo", "hello"), Path(folder) / "hello")
        ...     (result,) = LocalExecutor().run([cell])
        ...     result.exit_code, result.tail(1)
        (0, 'hello')
    """

    def __init__(self, jobs: int = 1, gpus: Sequence[str] | None = None) -> None:
        if jobs < 1:
            raise ConfigError(f"jobs is {jobs}, expected at least 1")
        self.jobs, self.gpus = jobs, gpus

    def shares(self) -> list[Share]:
        """Return the share of each job."""
        gpus = self.gpus
        if gpus is None and self.jobs > 1:
            from medseg.system.device import visible_gpus

            gpus = visible_gpus()
        return deal_out(self.jobs, usable_core_numbers(), gpus or ())

    def run(
        self, cells: Sequence[CellCommand], report: Callable[[CellResult], None] | None = None
    ) -> list[CellResult]:
        """Run all commands to their end; see :class:`medseg.study.executors.Executor`."""
        free: SimpleQueue[Share] = SimpleQueue()
        for share in self.shares():
            free.put(share)
        stop = Event()

        def run_one(cell: CellCommand) -> CellResult:
            if stop.is_set():
                return CellResult(cell, None, stopped=True)
            share = free.get()
            try:
                return run_cell(cell, share, stop=stop.is_set)
            finally:
                free.put(share)

        with collect_stop_signals() as signals, ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(run_one, cell) for cell in cells]
            try:
                _report_each(futures, report, lambda: bool(signals))
            finally:
                stop.set()
        if signals:
            raise StudyStopped(signals[0])
        return [future.result() for future in futures]


def _report_each(
    futures: Sequence[Future[CellResult]],
    report: Callable[[CellResult], None] | None,
    stop: Callable[[], bool],
) -> None:
    """Report every result when there is one, until all are there or ``stop`` returns True."""
    left = set(futures)
    while left and not stop():
        done, left = wait(left, _POLL_SECONDS, FIRST_COMPLETED)
        for future in done:
            result = future.result()
            if report is not None:
                report(result)
