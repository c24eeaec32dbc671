"""Worker processes that say which case they hold, so that one that dies or hangs can be named."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.utils.data import get_worker_info

from medseg.errors import DataError, TrainingError

_NOBODY = -1.0


class CaseTracker:
    """Notes shared by all processes: for each worker the case it prepares and since when."""

    def __init__(self, workers: int) -> None:
        self._notes = torch.full((max(workers, 1), 2), _NOBODY, dtype=torch.float64).share_memory_()

    def begin(self, case: int) -> None:
        """Note, in a worker, the case it begins with."""
        info = get_worker_info()
        if info is not None:
            self._notes[info.id] = torch.tensor([float(case), time.monotonic()], dtype=torch.float64)

    def end(self) -> None:
        """Note, in a worker, that it holds no case."""
        info = get_worker_info()
        if info is not None:
            self._notes[info.id, 0] = _NOBODY

    def held(self) -> list[tuple[int, float]]:
        """The cases that workers hold and the seconds they have held them, the longest first."""
        now = time.monotonic()
        rows = [(int(case), now - since) for case, since in self._notes.tolist() if case >= 0]
        return sorted(rows, key=lambda row: -row[1])


def supervise_batches(
    batches: Iterator[dict[str, torch.Tensor]], watch: CaseTracker, names: Sequence[str], *, timeout: float
) -> Iterator[dict[str, torch.Tensor]]:
    """Go through a loader's batches; a worker that fails is reported with the case it held.

    Raises: DataError naming the case that a worker could not prepare; TrainingError naming the cases held
    when a worker died, or hung for more than ``timeout`` seconds.
    """
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except DataError as error:
            failure: Exception = DataError(_own_words(error))
        except RuntimeError as error:
            explained = _explained(error, watch, names, timeout)
            if explained is None:
                raise
            failure = explained
        else:
            yield batch
            continue
        del batches
        gc.collect()  # tracebacks refer to the loader in a circle; without it the workers end here
        raise failure


def _own_words(error: DataError) -> str:
    """The message without the worker's traceback that torch puts before it."""
    return str(error).rpartition("DataError: ")[2].strip()


def _explained(
    error: RuntimeError, watch: CaseTracker, names: Sequence[str], timeout: float
) -> TrainingError | None:
    text = f"{error} {error.__cause__}"
    held = [f"case {names[case]}" for case, _ in watch.held()] or ["no case"]
    if "timed out" in text:
        case, seconds = watch.held()[0] if watch.held() else (-1, timeout)
        name = f"case {names[case]}" if case >= 0 else "no case"
        return TrainingError(
            f"a worker process has been stuck for {seconds:.0f} s while preparing {name}. Is its storage slow "
            "or gone? Raise data.worker_timeout, or set data.workers=0 to see where it hangs. The last good "
            "checkpoint is kept."
        )
    return _death(text, f" while the workers prepared {', '.join(held)}")


def _death(text: str, doing: str) -> TrainingError | None:
    killed = re.search(r"killed by signal: ([A-Za-z ]+\w)", text)
    if killed is None and "exited unexpectedly" not in text:
        return None
    how = f"was killed ({killed[1]})" if killed is not None else "died"
    return TrainingError(
        f"a worker process {how}{doing}. Was memory short? Lower data.workers, train.batch_size or "
        "sampling.patch_size. The last good checkpoint is kept."
    )


@contextmanager
def report_worker_crash() -> Iterator[None]:
    """Tell of a worker's death that torch notices in the middle of something else.

    It does so by a signal, and its error comes out of whatever the main process is computing just then.
    Raises: TrainingError for it.
    """
    try:
        yield
    except RuntimeError as error:
        told = _death(str(error), "")
        if told is None:
            raise
        raise told from error
