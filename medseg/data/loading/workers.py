"""Supervision of worker processes: a failure in a worker is reported with the case it was preparing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from monai.data.utils import list_data_collate
from torch.utils.data import Dataset, get_worker_info

from medseg.errors import MedsegError, TrainingError

Sample = dict[str, torch.Tensor]

_IDLE = -1.0
_CHECKPOINT = "The last good checkpoint is kept."


@dataclass(frozen=True)
class FailedSample:
    """A sample that a worker could not prepare.

    Workers return the error instead of raising it, because torch would replace it by one whose text contains
    the worker's traceback.
    """

    error: MedsegError


class ReportingDataset(Dataset[Sample | FailedSample]):
    """Wraps a dataset so that worker processes return errors of medseg as :class:`FailedSample`.

    Args:
        dataset: the dataset.
    """

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Sample | FailedSample:
        """Return a sample, or its error in a worker process."""
        try:
            return self.dataset[index]
        except MedsegError as error:
            if get_worker_info() is None:
                raise
            return FailedSample(error)


def collate(samples: Sequence[Sample | FailedSample]) -> Sample | FailedSample:
    """Stack samples into a batch as MONAI's data loader does; the first failure replaces the batch."""
    failure = next((sample for sample in samples if isinstance(sample, FailedSample)), None)
    batch: Any = list_data_collate(samples) if failure is None else failure
    return batch


class CaseTracker:
    """Records in shared memory which case each worker is preparing, and since when.

    Args:
        workers: number of worker processes.
    """

    def __init__(self, workers: int) -> None:
        self._records = torch.full((max(workers, 1), 2), _IDLE, dtype=torch.float64).share_memory_()

    def begin(self, case: int) -> None:
        """Record that the calling worker starts to prepare a case."""
        info = get_worker_info()
        if info is not None:
            self._records[info.id] = torch.tensor([float(case), time.monotonic()], dtype=torch.float64)

    def end(self) -> None:
        """Record that the calling worker is idle."""
        info = get_worker_info()
        if info is not None:
            self._records[info.id, 0] = _IDLE

    def active(self) -> list[tuple[int, float]]:
        """Return the index of each case in preparation and for how many seconds, the longest first."""
        now = time.monotonic()
        rows = [(int(case), now - since) for case, since in self._records.tolist() if case >= 0]
        return sorted(rows, key=lambda row: -row[1])


def supervise_batches(
    batches: Iterator[Sample | FailedSample], tracker: CaseTracker, names: Sequence[str], *, timeout: float
) -> Iterator[Sample]:
    """Yield the batches of a data loader and report failures of its workers.

    Args:
        batches: iterator of the loader.
        tracker: the cases that the workers prepare.
        names: ids of the cases.
        timeout: seconds after which the loader raises if no batch arrives.

    Raises:
        MedsegError: the error of a worker that could not prepare a sample (usually a DataError).
        TrainingError: if a worker dies or is stuck for more than ``timeout`` seconds; names the cases in
            preparation.
    """
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            explained = _explain(error, tracker, names, timeout)
            if explained is None:
                raise
            failure: MedsegError = explained
        else:
            if not isinstance(batch, FailedSample):
                yield batch
                continue
            failure = batch.error
        _end_workers(batches)
        raise failure


def _end_workers(batches: Iterator[Sample | FailedSample]) -> None:
    """End the processes of a loader now; torch does it when the garbage collector finds the iterator."""
    shutdown = getattr(batches, "_shutdown_workers", None)
    if shutdown is not None:
        shutdown()


def _explain(
    error: RuntimeError, tracker: CaseTracker, names: Sequence[str], timeout: float
) -> TrainingError | None:
    """Name the cases of a worker that died or is stuck; torch reports both as plain RuntimeErrors."""
    text = f"{error} {error.__cause__}"
    active = tracker.active()
    if "timed out" in text:
        case, seconds = active[0] if active else (-1, timeout)
        name = f"case {names[case]}" if case >= 0 else "no case"
        return TrainingError(
            f"a worker process has been stuck for {seconds:.0f} s while preparing {name}",
            hint="Check whether its storage is slow or unavailable. Raise data.worker_timeout, or set "
            f"data.workers=0 to see where it is stuck. {_CHECKPOINT}",
            case=names[case] if case >= 0 else None,
        )
    held = ", ".join(f"case {names[case]}" for case, _ in active) or "no case"
    return _explain_crash(text, f" while the workers prepared {held}")


def _explain_crash(text: str, activity: str) -> TrainingError | None:
    signal = re.search(r"killed by signal: ([A-Za-z ]+\w)", text)
    if signal is None and "exited unexpectedly" not in text:
        return None
    how = f"was killed ({signal[1]})" if signal is not None else "died"
    return TrainingError(
        f"a worker process {how}{activity}",
        hint="The machine may be out of memory: lower data.workers, train.batch_size or sampling.patch_size. "
        f"{_CHECKPOINT}",
    )


@contextmanager
def report_worker_crash() -> Iterator[None]:
    """Report the death of a worker that torch detects while the main process computes something else.

    torch detects it by a signal; its error is raised from whatever the main process is executing.

    Raises:
        TrainingError: if a worker died.
    """
    try:
        yield
    except RuntimeError as error:
        explained = _explain_crash(str(error), "")
        if explained is None:
            raise
        raise explained from error
