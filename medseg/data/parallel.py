"""Many cases at a time: in threads, or in processes where there is enough to do, within a budget of memory.

The processes run ``python -m medseg.data.parallel``; they import nothing of the script that started the
training, so scripts without a ``__main__`` guard and notebooks work, on every system.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from medseg.errors import TrainingError
from medseg.system.platform import available_memory, granted_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

PROCESS_SECONDS = 30.0
"""Work, in seconds on one core, from which on processes pay: each takes a few seconds to start."""

_PROCESS_BYTES = 400 << 20
"""Memory of a process that has imported what prepares cases."""
_UNKNOWN_MEMORY = 4 << 30


@dataclass(frozen=True)
class Job(Generic[Item]):
    """Something to do for one case.

    Attributes:
        item: what the function is called with.
        memory: bytes it takes while it runs, about.
        seconds: it takes on one core, about.
    """

    item: Item
    memory: int
    seconds: float


class Budget:
    """Memory that running jobs share; a job that is larger than all of it runs alone."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, memory: int) -> Iterator[None]:
        """Wait until ``memory`` bytes are free, and hold them."""
        memory = min(memory, self.size)
        with self._changed:
            self._changed.wait_for(lambda: self._used + memory <= self.size)
            self._used += memory
        try:
            yield
        finally:
            with self._changed:
                self._used -= memory
                self._changed.notify_all()


def run_jobs(
    function: Callable[[Item], Result],
    jobs: Sequence[Job[Item]],
    done: Callable[[Item], None] = lambda item: None,
    *,
    processes: bool | None = None,
) -> list[Result]:
    """Call ``function`` with each job's item; returns the results in the order of the jobs.

    As many run at a time as there are cores and as half of the available memory holds. ``done`` is called in
    this thread as each ends. ``processes`` says whether they run in processes (then function, items and
    results are pickled); none decides by the work there is.

    Raises: what the function raises for the first job that fails; the others are not started then.
    TrainingError if a process dies.
    """
    if not jobs:
        return []
    cores = min(granted_cores(), len(jobs))
    if processes is None:
        processes = cores > 1 and sum(job.seconds for job in jobs) > PROCESS_SECONDS
    memory = (available_memory() or _UNKNOWN_MEMORY) // 2
    if processes:
        cores = max(1, min(cores, memory // (2 * _PROCESS_BYTES)))
        memory -= cores * _PROCESS_BYTES
    budget = Budget(max(memory, 1))
    helpers = [_Helper() for _ in range(cores)] if processes else []
    idle = list(helpers)

    def one(job: Job[Item]) -> Result:
        with budget.reserve(job.memory):
            if not processes:
                return function(job.item)
            helper = idle.pop()
            try:
                return helper.call(function, job.item)
            finally:
                idle.append(helper)

    pool = ThreadPoolExecutor(max_workers=cores)
    try:
        futures: dict[Future[Result], Job[Item]] = {pool.submit(one, job): job for job in jobs}
        for future in as_completed(futures):
            future.result()
            done(futures[future].item)
        return [future.result() for future in futures]
    except BaseException:
        for helper in helpers:
            helper.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for helper in helpers:
            helper.end()


class _Helper:
    """A process that calls functions, one at a time."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "medseg.data.parallel"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        )

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        """Call a function there. Raises: what it raises; TrainingError if the process dies."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((function, item), self._process.stdin)
            self._process.stdin.flush()
            good, result = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = self._process.wait()
            raise TrainingError(
                f"a process that prepared cases died (exit code {code}). Was memory short? Close other "
                "programs and start again: the cases prepared so far stay in the cache."
            ) from error
        if not good:
            raise result
        return result

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    def end(self) -> None:
        """Let it end."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # it died before it read all that was written
                    continue
        self._process.wait()


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer calls until there are no more."""
    while True:
        try:
            function, item = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (True, function(item))
        except Exception as error:
            answer = (False, _portable(error))
        pickle.dump(answer, answers)
        answers.flush()


def _portable(error: Exception) -> Exception:
    """The exception, or its text where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def main() -> None:
    """Serve the process that started this one; what functions print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, answers)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)


if __name__ == "__main__":
    main()
