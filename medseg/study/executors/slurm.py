"""Executor for SLURM: each cell is a job, submitted by submitit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medseg.errors import ConfigError
from medseg.study.executors.cluster import ClusterJob, prepare_for_queue, run_cell_as_job, wait_for_jobs
from medseg.study.executors.protocol import CellCommand, CellResult
from medseg.study.executors.state import read_job, read_state, write_job

_ALIVE = ("PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "COMPLETING", "RESIZING", "SUSPENDED")


@dataclass(frozen=True)
class JobResources:
    """What a job asks for.

    Attributes:
        minutes: longest duration. Before it is over, the job saves its state and is queued again.
        cpus: cores.
        memory_gb: memory in GB.
        gpus: GPUs.
        at_once: most jobs that run at the same time; if None, as many as the queue starts.
        requeues: number of times that a job that used up its time is queued again.
        options: further options of ``sbatch``, such as ``partition``.
    """

    minutes: float = 240.0
    cpus: int = 4
    memory_gb: float = 16.0
    gpus: int = 0
    at_once: int | None = None
    requeues: int = 3
    options: tuple[tuple[str, Any], ...] = ()

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of submitit."""
        slurm: dict[str, Any] = {"slurm_array_parallelism": self.at_once} if self.at_once else {}
        if self.options:
            slurm["slurm_additional_parameters"] = dict(self.options)
        if self.gpus:
            slurm["gpus_per_node"] = self.gpus
        return {
            "name": "medseg", "timeout_min": max(1, round(self.minutes)), "cpus_per_task": self.cpus,
            "mem_gb": self.memory_gb, **slurm,
        }  # fmt: skip


class SlurmExecutor:
    """Runs each command as a job of SLURM.

    The jobs run the same Python with the same files under the same paths. They continue if this process is
    killed or its connection is lost; the same study started again waits for them. On SIGTERM and SIGINT they
    save their state and end.

    Args:
        folder: receives submitit's files; visible on all machines.
        resources: of each job.
        cluster: ``slurm``; ``local`` and ``debug`` run the jobs on this machine, for tests.
        poll_seconds: time between two questions about the jobs.

    Raises:
        ConfigError: if submitit is not installed, or there is no SLURM here.
    """

    def __init__(
        self,
        folder: Path,
        resources: JobResources | None = None,
        cluster: Literal["slurm", "local", "debug"] = "slurm",
        *,
        poll_seconds: float = 5.0,
    ) -> None:
        self.folder, self.resources, self.cluster = folder, resources or JobResources(), cluster
        self.poll_seconds = poll_seconds
        submitit = _submitit()
        try:
            self._executor: Any = submitit.AutoExecutor(
                folder=folder / "%j", cluster=cluster, slurm_max_num_timeout=self.resources.requeues
            )
        except RuntimeError as error:
            raise ConfigError(
                f"executor slurm: {error}", hint="Start the study on a machine where sbatch and srun work."
            ) from error
        self._executor.update_parameters(**self.resources.parameters())

    def run(
        self, cells: Sequence[CellCommand], report: Callable[[CellResult], None] | None = None
    ) -> list[CellResult]:
        """Run all commands to their end; see :class:`medseg.study.executors.Executor`."""
        jobs: dict[Path, ClusterJob] = {}
        for cell in cells:
            job = self._running_job(cell)
            if job is not None:
                jobs[cell.folder] = job
        new = [cell for cell in cells if cell.folder not in jobs]
        queued = [prepare_for_queue(cell) for cell in new]
        if queued:
            with self._executor.batch():
                submitted = [self._executor.submit(CellJob(), cell) for cell in queued]
            for cell, job in zip(new, submitted, strict=True):
                write_job(cell.folder, str(job.job_id))
                jobs[cell.folder] = job
        return wait_for_jobs(cells, [jobs[cell.folder] for cell in cells], report, self.poll_seconds)

    def _running_job(self, cell: CellCommand) -> ClusterJob | None:
        """Return the job of a cell that an earlier process submitted, if it runs or waits to run (again)."""
        number, status = read_job(cell.folder), read_state(cell.folder).status
        if self.cluster != "slurm" or not number or status in ("complete", "failed"):
            return None
        job = _submitit().SlurmJob(folder=self.folder / "%j", job_id=number)
        return job if job.state.upper().startswith(_ALIVE) else None


class CellJob:
    """The function of a job."""

    def __call__(self, cell: CellCommand) -> CellResult:
        """Run the cell."""
        return run_cell_as_job(cell)

    def checkpoint(self, cell: CellCommand) -> Any:
        """Queue the job again when its time is over or it is preempted; the command continues by itself."""
        return _submitit().helpers.DelayedSubmission(self, cell)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            "executor slurm needs submitit, which is not installed",
            hint="Run pip install '.[slurm]' in the folder of medseg.",
        ) from error
    return submitit
