"""Batch inference on several machines or processes: each case is a task of a Dask scheduler.

All workers see the same files at the same paths. A worker keeps the models that it has loaded. If a worker
dies, its case is tried again; files that it wrote are complete or do not exist.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from medseg.data.cases import Case
from medseg.errors import ConfigError, MedsegError
from medseg.inference.batch.batch_inference import infer_case, report_outcome, sort_outcomes
from medseg.inference.batch.options import DEFAULTS, BatchOptions
from medseg.inference.batch.outputs.dicom_objects import check_dicom_sources
from medseg.inference.batch.outputs.files import CaseOutcome
from medseg.inference.batch.outputs.folder import open_output
from medseg.inference.model.predictor import Predictor
from medseg.inference.model.protocols import Segmenter
from medseg.inference.model.published_models import model_source
from medseg.progress import QUIET, Progress, stage
from medseg.system.allocator import is_out_of_memory, keep_freed_memory
from medseg.system.device import Precision, visible_gpus
from medseg.system.platform import granted_cores
from medseg.system.processes.cores import THREAD_VARIABLES
from medseg.task import Task

if TYPE_CHECKING:
    from distributed import Client

_START_SECONDS = 240  # on a busy machine, an import alone can take a minute
_ATTEMPTS = 4


@dataclass(frozen=True)
class PredictorSpec:
    """Picklable arguments from which each worker builds its ``Predictor``.

    Attributes:
        models: run folders, model files or names of published networks.
        weights: weights file of a published network.
        device: as in ``Predictor``.
        settings: inference settings that differ from those of the models.
        threads: number of threads of a worker; chosen by torch if None.
        amp: as in ``Predictor``.
        backend: as in ``Predictor``.
        compiled: as in ``Predictor``.
        force: as in ``Predictor``.
        network: the function that builds the models' networks, if they were trained with one of your own. The
            workers can import its module.
    """

    models: tuple[str, ...]
    weights: str | None = None
    device: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    threads: int | None = None
    amp: Precision = "auto"
    backend: str = "auto"
    compiled: bool = False
    force: bool = False
    network: Callable[[Task], nn.Module] | None = None

    def build(self) -> Segmenter[Any]:
        """Load the predictor. Raises: MedsegError as ``Predictor``."""
        weights = Path(self.weights) if self.weights else None
        sources = [model_source(Path(model), weights) for model in self.models]
        return Predictor(
            sources, model=self.network, device=self.device, amp=self.amp, settings=self.settings,
            backend=self.backend, compiled=self.compiled, force=self.force,
        )  # fmt: skip


_LOADED: dict[str, Segmenter[Any]] = {}
"""The predictor of this process by its specification, so that a worker loads its models once."""


def infer_distributed(
    spec: PredictorSpec,
    cases: Sequence[Case],
    output: Path | str,
    client: Client,
    options: BatchOptions = DEFAULTS,
    *,
    progress: Progress = QUIET,
) -> list[CaseOutcome]:
    """Segment cases on the workers of a Dask scheduler.

    Args:
        spec: the models.
        cases: the cases; their ids name the files.
        output: output folder.
        client: client of the scheduler, such as from :func:`connected` or :func:`local_workers`.
        options: outputs, their layout, and the handling of existing results.
        progress: receives each case.

    Returns:
        One outcome per case, in the order of ``cases``.

    Raises:
        ConfigError: as :func:`~medseg.inference.batch.batch_inference.infer_cases`, or medseg is not installed
            on the workers.
    """
    output = Path(output).resolve()
    check_dicom_sources(cases, options.dicom)
    absolute = replace(spec, models=tuple(_absolute(model) for model in spec.models))
    outcomes: list[CaseOutcome] = []
    with (
        open_output(spec.build(), cases, output, options, outcomes),
        stage(progress, len(cases), "segmenting cases"),
    ):
        scheduler: Any = client  # Dask annotates few functions
        tasks: dict[Any, Case] = {
            scheduler.submit(_infer_one, absolute, _resolved(case), output, options, pure=False): case
            for case in cases
        }
        try:
            for task in _distributed().as_completed(tasks, loop=client.loop):
                case = tasks[task]
                outcome: CaseOutcome = (
                    task.result() if task.status == "finished" else _failed(case, task.exception())
                )
                outcomes.append(outcome)
                report_outcome(outcome, progress)
        finally:
            scheduler.cancel(list(tasks))
    return sort_outcomes(outcomes, cases)


@contextmanager
def connected(scheduler: str) -> Generator[Client]:
    """Connect to a running scheduler. Raises: ConfigError if it cannot be reached."""
    distributed = _distributed()
    try:
        client = distributed.Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"--scheduler {scheduler}: cannot be reached ({error})",
            hint="Start it with: dask scheduler, and workers with: dask worker ADDRESS",
        ) from error
    with client:
        yield client


@contextmanager
def local_workers(count: int, device: str = "auto") -> Generator[Client]:
    """Start a scheduler with worker processes on this machine; they end with the block.

    The workers share the processor's cores, and the GPUs if ``device`` does not name one (``auto``, ``cuda``).
    They listen on the loopback interface only. Workers that die are restarted.

    Args:
        count: number of worker processes.
        device: device of the workers.

    Raises:
        ConfigError: the workers do not start.
    """
    distributed = _distributed()
    cluster = distributed.LocalCluster(
        n_workers=0,
        host="127.0.0.1",
        dashboard_address=None,
        worker_dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its HTTP server; otherwise port 8787
        silence_logs=50,
    )
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        cluster.scheduler_address,
        "--host",
        "127.0.0.1",
    ]
    quiet = subprocess.DEVNULL
    options = ["--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--death-timeout", str(_START_SECONDS)]
    shares = worker_environments(count, granted_cores(), visible_gpus(device))
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        workers = [
            subprocess.Popen([*command, *options], stdout=quiet, stderr=quiet, env={**os.environ, **share})
            for share in shares
        ]
        try:
            client.wait_for_workers(count, timeout=_START_SECONDS)
            yield client
        except TimeoutError as error:
            raise ConfigError(f"--workers {count}: they did not start within {_START_SECONDS} s") from error
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                with suppress(subprocess.TimeoutExpired):
                    worker.wait(10)
                worker.kill()


def worker_environments(count: int, cores: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Environment variables by which workers share a machine: cores // count threads each, GPUs in turn.

    Example:
        >>> [environment["OMP_NUM_THREADS"] for environment in worker_environments(2, 8, [])]
        ['4', '4']
    """
    threads = str(max(1, cores // count))
    nanny = "DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON__"  # otherwise Dask sets these to 1
    shared = {name: threads for variable in THREAD_VARIABLES for name in (variable, nanny + variable)}
    devices = [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(count)]
    return [shared | device for device in devices]


def _infer_one(spec: PredictorSpec, case: Case, output: Path, options: BatchOptions) -> CaseOutcome:
    """Segment one case in a worker."""
    key = repr(spec)
    if key not in _LOADED:
        import torch

        keep_freed_memory()
        if spec.threads:
            torch.set_num_threads(spec.threads)
        _LOADED.clear()  # models may be large: keep one
        _LOADED[key] = spec.build()
    return infer_case(_LOADED[key], case, output, options)


def _failed(case: Case, error: BaseException | None) -> CaseOutcome:
    """The outcome of a task that did not finish: its workers died, or cannot import medseg."""
    if isinstance(error, MedsegError):
        raise error
    if isinstance(error, ImportError):
        raise ConfigError(
            f"the workers cannot import medseg ({error})", hint="Install the same version on the workers."
        ) from error
    name = type(error).__name__
    reason = f"{name}: {error}"
    if name == "KilledWorker":
        reason = (
            f"its worker died {_ATTEMPTS} times. If the system killed it for lack of memory, use fewer "
            "--workers."
        )
    return CaseOutcome(case.id, "failed", error=reason, out_of_memory=is_out_of_memory(error))


def _absolute(model: str) -> str:
    """The absolute path of a model; the name of a published network unchanged."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def _resolved(case: Case) -> Case:
    return replace(
        case,
        image=case.image.parent.resolve() / case.image.name,
        label=case.label and case.label.parent.resolve() / case.label.name,
        other_channels=tuple(path.parent.resolve() / path.name for path in case.other_channels),
        foreground=case.foreground and case.foreground.parent.resolve() / case.foreground.name,
        masks={name: path.parent.resolve() / path.name for name, path in case.masks.items()},
    )


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ConfigError(
            "--scheduler and --workers need Dask, which is not installed",
            hint="Run pip install '.[dask]' in the folder of medseg.",
        ) from error
    return distributed
