"""Executor for Dask: each cell is a task of a scheduler, whose workers may be jobs of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from medseg.errors import ConfigError
from medseg.inference.batch.distributed import connected
from medseg.study.executors.cluster import prepare_for_queue, run_cell_as_job, wait_for_jobs
from medseg.study.executors.protocol import CellCommand, CellResult

QueueSystem = Literal["slurm", "pbs", "sge", "lsf", "htcondor", "oar", "moab"]

_CLUSTERS = {
    "slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster", "oar": "OARCluster", "moab": "MoabCluster",
}  # fmt: skip


@dataclass(frozen=True)
class QueuedWorkers:
    """Workers that are jobs of a queueing system.

    Attributes:
        system: the queueing system.
        workers: number of jobs; each runs one cell at a time.
        options: arguments of the cluster class of dask-jobqueue: cores, memory, walltime, queue, ….
    """

    system: QueueSystem
    workers: int = 1
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    @contextmanager
    def client(self) -> Generator[Any]:
        """Start the workers; they end with the block. Raises: ConfigError if dask-jobqueue is not installed."""
        try:
            import dask_jobqueue
            from distributed import Client
        except ImportError as error:
            raise ConfigError(
                "executor dask with a queueing system needs dask-jobqueue, which is not installed",
                hint="Run pip install '.[slurm]' in the folder of medseg.",
            ) from error
        cluster_class = getattr(dask_jobqueue, _CLUSTERS[self.system])
        extra = ["--nthreads", "1"]
        with (
            cluster_class(processes=1, worker_extra_args=extra, **self.options) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            cluster.scale(jobs=self.workers)
            yield client


class DaskExecutor:
    """Runs each command as a task of a Dask scheduler.

    All workers see the same files at the same paths. A cell whose worker dies is tried again and continues. On
    SIGTERM and SIGINT the cells save their state and end.

    Args:
        workers: address of a running scheduler, or the workers to start. Each worker should have one thread,
            because it runs as many cells at a time as it has threads.
        poll_seconds: time between two questions about the tasks.
    """

    def __init__(self, workers: str | QueuedWorkers, *, poll_seconds: float = 1.0) -> None:
        self.workers, self.poll_seconds = workers, poll_seconds

    def run(
        self, cells: Sequence[CellCommand], report: Callable[[CellResult], None] | None = None
    ) -> list[CellResult]:
        """Run all commands to their end; see :class:`medseg.study.executors.Executor`."""
        if not cells:
            return []
        workers = self.workers
        with connected(workers) if isinstance(workers, str) else workers.client() as client:
            queued = [prepare_for_queue(cell) for cell in cells]
            scheduler: Any = client  # Dask annotates few functions
            tasks = [scheduler.submit(run_cell_as_job, cell, pure=False) for cell in queued]
            return wait_for_jobs(cells, tasks, report, self.poll_seconds)
