"""Processes of a sweep on this machine, which share its cores and GPUs."""

from __future__ import annotations

import logging

from medseg.errors import EXIT_OK, EXIT_SOME_FAILED
from medseg.study.executors import CellCommand, CellResult, LocalExecutor
from medseg.study.sweep.study_folder import SweepFolder

_LOGGER = logging.getLogger(__name__)


def run_workers(folder: SweepFolder, trials: int, jobs: int) -> list[CellResult]:
    """Work on a sweep in several processes until they end.

    A process that is killed ends alone: the others continue its trial.

    Args:
        folder: of the sweep, which records what is searched.
        trials: number of trials of the study.
        jobs: number of processes.
    """
    words = ["study", "sweep", str(folder.config), str(folder.sweep), "--output", str(folder.root)]
    cells = [
        CellCommand.medseg(
            f"worker {n + 1}", [*words, "--trials", str(trials)], folder.root / "workers" / str(n + 1)
        )
        for n in range(jobs)
    ]
    _LOGGER.info("%d processes search; their messages are in %s", jobs, folder.root / "workers")
    results = LocalExecutor(jobs).run(cells)
    for result in results:
        if result.exit_code not in (EXIT_OK, EXIT_SOME_FAILED):
            _LOGGER.warning("%s: %s; its trial is continued", result.cell.name, result.describe())
    return results
