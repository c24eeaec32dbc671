"""Settings of executors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from medseg.config.base import Spec
from medseg.config.duration import Minutes
from medseg.study.executors.dask import DaskExecutor, QueuedWorkers, QueueSystem
from medseg.study.executors.local import LocalExecutor
from medseg.study.executors.slurm import JobResources, SlurmExecutor

Positive = Annotated[int, Field(ge=1)]
OneLine = Annotated[str, Field(pattern=r"^[^\n\r]*$")]


class LocalConfig(Spec):
    """Processes on this machine.

    Attributes:
        jobs: number of trainings that run at the same time; they divide cores and GPUs.
    """

    name: Literal["local"] = "local"
    jobs: Positive = 1

    def build(self, folder: Path) -> LocalExecutor:
        """Return the executor for a study in a folder."""
        return LocalExecutor(self.jobs)


class SlurmConfig(Spec):
    """Jobs of SLURM, submitted by submitit.

    Attributes:
        time: longest duration of a job: minutes, or text such as ``8h``. A training that takes longer saves its
            state and is queued again.
        cpus: cores of a job.
        memory_gb: memory of a job in GB.
        gpus: GPUs of a job.
        at_once: most jobs that run at the same time; if None, as many as the queue starts.
        requeues: number of times that a job is queued again.
        options: further options of ``sbatch`` by their long names, such as ``partition`` or ``account``.
        cluster: ``slurm``; ``local`` and ``debug`` run the jobs on this machine, to try a study out.
    """

    name: Literal["slurm"] = "slurm"
    time: Minutes = 240.0
    cpus: Positive = 4
    memory_gb: float = Field(default=16.0, gt=0)
    gpus: int = Field(default=0, ge=0)
    at_once: Positive | None = None
    requeues: int = Field(default=3, ge=0)
    options: dict[OneLine, OneLine | int] = Field(default_factory=dict[str, str | int])
    cluster: Literal["slurm", "local", "debug"] = "slurm"

    def build(self, folder: Path) -> SlurmExecutor:
        """Return the executor for a study in a folder."""
        resources = JobResources(
            self.time, self.cpus, self.memory_gb, self.gpus, self.at_once, self.requeues,
            tuple(self.options.items()),
        )  # fmt: skip
        return SlurmExecutor(folder.absolute() / "jobs", resources, self.cluster)


class DaskConfig(Spec):
    """Tasks of a Dask scheduler: a running one, or one whose workers are jobs of a queueing system.

    Attributes:
        scheduler: address of a running scheduler, such as ``tcp://HOST:8786``.
        system: queueing system that starts the workers, by dask-jobqueue; instead of ``scheduler``.
        workers: number of these workers.
        cores: cores of a worker.
        memory: memory of a worker, such as ``16GB``.
        walltime: longest duration of a worker, such as ``08:00:00``.
        queue: queue or partition of the workers.
        account: account of the workers.
        interface: network interface of scheduler and workers, such as ``ib0``.
        directives: further directives of the job script, such as ``--gres=gpu:1``.
    """

    name: Literal["dask"] = "dask"
    scheduler: str | None = None
    system: QueueSystem | None = None
    workers: Positive = 1
    cores: Positive = 4
    memory: str = "16GB"
    walltime: str = "04:00:00"
    queue: OneLine | None = None
    account: OneLine | None = None
    interface: OneLine | None = None
    directives: tuple[OneLine, ...] = ()

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if (self.scheduler is None) == (self.system is None):
            raise ValueError("give either scheduler or system")
        return self

    def build(self, folder: Path) -> DaskExecutor:
        """Return the executor for a study in a folder."""
        if self.scheduler is not None or self.system is None:
            return DaskExecutor(str(self.scheduler))
        options: dict[str, Any] = {
            "cores": self.cores, "memory": self.memory, "walltime": self.walltime, "queue": self.queue,
            "account": self.account, "interface": self.interface,
            "job_extra_directives": list(self.directives) or None,
        }  # fmt: skip
        given = {key: value for key, value in options.items() if value is not None}
        return DaskExecutor(QueuedWorkers(self.system, self.workers, given))


ExecutorConfig = Annotated[LocalConfig | SlurmConfig | DaskConfig, Field(discriminator="name")]
"""Settings of an executor."""
