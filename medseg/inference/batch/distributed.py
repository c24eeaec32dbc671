"""A cohort on several machines, or several processes of one: a case is a task of a Dask scheduler.

Workers see the same files under the same paths. Each keeps the models it has loaded; a worker that dies costs
its case another try, and what it had written is whole or not there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.data.cases import Case
from medseg.errors import ConfigError, MedsegError
from medseg.inference.batch.batch_inference import infer_case
from medseg.inference.batch.dicom_objects import refuse_undicom
from medseg.inference.batch.options import DEFAULTS, BatchOptions
from medseg.inference.batch.output_files import CaseOutcome
from medseg.inference.batch.output_folder import open_output
from medseg.inference.model.predictor import Predictor
from medseg.inference.model.protocols import Segmenter
from medseg.inference.model.published_models import model_source
from medseg.system.allocator import is_out_of_memory, keep_freed_memory
from medseg.system.device import Precision
from medseg.system.platform import granted_cores

if TYPE_CHECKING:
    from distributed import Client

_START_SECONDS = 60
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
_TRIES = 4


@dataclass(frozen=True)
class PredictorSpec:
    """What a worker builds its ``Predictor`` from.

    Attributes:
        models: run folders, model files or names of published networks.
        weights: file of a published network's weights.
        settings: of the inference, other than the models'.
        threads: of a worker; none leaves it to torch.
        amp, backend, compiled, force: as in ``Predictor``.
    """

    models: tuple[str, ...]
    weights: str | None = None
    device: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    amp: Precision = "auto"
    backend: str = "auto"
    compiled: bool = False
    force: bool = False

    def build(self, say: Callable[[str], None] = lambda line: None) -> Segmenter:
        """The predictor, which tells ``say`` what computes; errors as ``Predictor``."""
        weights = Path(self.weights) if self.weights else None
        sources = [model_source(Path(model), weights) for model in self.models]
        return Predictor(
            sources, device=self.device, amp=self.amp, settings=self.settings, backend=self.backend,
            compiled=self.compiled, force=self.force, say=say,
        )  # fmt: skip


_LOADED: dict[str, Segmenter] = {}
"""The predictor of this process, by its specification: a worker's models are loaded once."""


def infer_distributed(
    spec: PredictorSpec,
    cases: list[Case],
    output: Path,
    client: Client,
    options: BatchOptions = DEFAULTS,
    *,
    report: Callable[[CaseOutcome], None] = lambda outcome: None,
) -> list[CaseOutcome]:
    """As ``infer_cases``, each case a task of ``client``'s scheduler; outcomes are in the order of ``cases``.

    Raises: ConfigError as ``infer_cases``, or if the workers are none of medseg's.
    """
    from distributed import as_completed

    output = Path(output).resolve()
    refuse_undicom(cases, options.dicom)
    absolute = replace(spec, models=tuple(_absolute(model) for model in spec.models))
    outcomes: list[CaseOutcome] = []
    with open_output(spec.build(), cases, output, options, outcomes):
        tasks = {
            client.submit(_infer_one, absolute, _resolved(case), output, options, pure=False): case
            for case in cases
        }
        try:
            for task in as_completed(tasks, loop=client.loop):
                case = tasks[task]
                outcome = task.result() if task.status == "finished" else _failed(case, task.exception())
                outcomes.append(outcome)
                report(outcome)
        finally:
            client.cancel(list(tasks))
    order = {case.id: place for place, case in enumerate(cases)}
    return sorted(outcomes, key=lambda outcome: order[outcome.case])


@contextmanager
def connected(scheduler: str) -> Iterator[Client]:
    """A client of a scheduler that runs. Raises: ConfigError if it cannot be reached."""
    distributed = _distributed()
    try:
        client = distributed.Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"--scheduler {scheduler}: cannot be reached ({error}). Start it with: dask scheduler, and workers "
            "with: dask worker ADDRESS"
        ) from error
    with client:
        yield client


@contextmanager
def local_workers(count: int, device: str = "auto") -> Iterator[Client]:
    """A client of a scheduler of its own with ``count`` worker processes on this machine, ended with it.

    The processor's cores are divided among them, and the GPUs where ``device`` leaves open which one (``auto``,
    ``cuda``). They listen on the loopback device alone. Workers that die are started anew.
    Raises: ConfigError if they do not start.
    """
    distributed = _distributed()
    cluster = distributed.LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address=None, worker_dashboard_address=None, silence_logs=50
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
    shares = worker_environments(count, granted_cores(), _gpus(device))
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
    """The environment variables by which workers share a machine: cores // count threads each, GPUs in turn."""
    threads = str(max(1, cores // count))
    nanny = "DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON__"  # else Dask sets these to 1
    shared = {name: threads for variable in _THREADS for name in (variable, nanny + variable)}
    devices = [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(count)]
    return [shared | device for device in devices]


def _gpus(device: str) -> list[str]:
    """The GPUs to deal out, as ``CUDA_VISIBLE_DEVICES`` names them; empty if one is chosen or there is none."""
    import torch

    if device not in ("auto", "cuda"):
        return []
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible or [str(i) for i in range(torch.cuda.device_count())]


def _infer_one(spec: PredictorSpec, case: Case, output: Path, options: BatchOptions) -> CaseOutcome:
    """One case, in a worker."""
    key = repr(spec)
    if key not in _LOADED:
        import torch

        keep_freed_memory()
        if spec.threads:
            torch.set_num_threads(spec.threads)
        _LOADED.clear()  # one at a time: they may be large
        _LOADED[key] = spec.build()
    return infer_case(_LOADED[key], case, output, options)


def _failed(case: Case, error: BaseException | None) -> CaseOutcome:
    """The outcome of a task that did not end: its worker died too often, or it has no medseg."""
    if isinstance(error, MedsegError):
        raise error
    if isinstance(error, ImportError):
        raise ConfigError(f"the workers cannot run medseg ({error}); install the same version there") from error
    name = type(error).__name__
    why = f"{name}: {error}"
    if name == "KilledWorker":
        why = f"its worker died {_TRIES} times; if the system ended it for want of memory, take fewer --workers"
    return CaseOutcome(case.id, "failed", error=why, out_of_memory=is_out_of_memory(error))


def _absolute(model: str) -> str:
    """A model's path as other processes find it; a published network's name as it is."""
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
        raise ConfigError("--scheduler and --workers need Dask: pip install 'medseg[dask]'") from error
    return distributed
