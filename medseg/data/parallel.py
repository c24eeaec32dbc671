"""Run jobs on many cases in parallel, in threads or processes, within a memory budget.

The processes run ``python -m medseg.data.parallel``; they do not import the script that started the
training, so notebooks and scripts without a ``__main__`` guard work on every system.
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
from medseg.system.processes.launch import Launch

Item = TypeVar("Item")
Result = TypeVar("Result")

PROCESS_SECONDS = 30.0
"""Minimum work, in seconds on one core, for which processes are worth their start-up time of a few seconds."""

_PROCESS_BYTES = 400 << 20
"""Memory of a process that has imported the modules that prepare cases."""
_UNKNOWN_MEMORY = 4 << 30


@dataclass(frozen=True)
class Job(Generic[Item]):
    """One call of a function and its cost.

    Attributes:
        item: argument of the function.
        memory: approximate bytes in use while it runs.
        seconds: approximate time on one core.
    """

    item: Item
    memory: int
    seconds: float


class MemoryBudget:
    """Memory that running jobs share; a job larger than the whole budget runs alone."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, memory: int) -> Iterator[None]:
        """Wait until ``memory`` bytes are free, and reserve them."""
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
    limit: int | None = None,
    on_error: Callable[[Item, Exception], Result] | None = None,
) -> list[Result]:
    """Call a function with each job's item, in parallel.

    The number of jobs that run at a time is limited by the cores and by half of the available memory.

    Args:
        function: called with the item of each job.
        jobs: the jobs.
        done: called in this thread with the item of each job that ends.
        processes: whether jobs run in processes; function, items and results are then pickled. If None, this
            depends on the amount of work.
        limit: most jobs at a time. If None, the number of cores.
        on_error: called with the item and the error of a job that fails; what it returns is the result of the
            job, and the other jobs go on. If None, the first error ends all jobs.

    Returns:
        The results in the order of the jobs.

    Raises:
        Exception: what the function raises for the first job that fails; no further jobs are started.
        TrainingError: a process dies.

    Example:
        >>> run_jobs(abs, [Job(-1, 0, 0.0), Job(2, 0, 0.0)])
        [1, 2]
    """
    if not jobs:
        return []
    cores, budget, in_processes = _share_machine(jobs, processes, limit)
    workers = _Workers(cores if in_processes else 0)

    def one(job: Job[Item]) -> Result:
        try:
            with budget.reserve(job.memory):
                return (workers.call if in_processes else _call)(function, job.item)
        except Exception as error:  # the caller decides about errors of any kind
            if on_error is None:
                raise
            return on_error(job.item, error)

    pool = ThreadPoolExecutor(max_workers=cores)
    try:
        futures: dict[Future[Result], Job[Item]] = {pool.submit(one, job): job for job in jobs}
        for future in as_completed(futures):
            future.result()
            done(futures[future].item)
        return [future.result() for future in futures]
    except BaseException:  # also when interrupted: running jobs are not waited for
        workers.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        workers.close()


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


def _share_machine(
    jobs: Sequence[Job[Any]], processes: bool | None, limit: int | None
) -> tuple[int, MemoryBudget, bool]:
    """Return the number of jobs at a time, their memory, and whether they run in processes."""
    processes_here = Launch.of_this_process().local_size  # of a distributed training; they share the machine
    cores = min(limit or max(1, granted_cores() // processes_here), len(jobs))
    if processes is None:
        processes = cores > 1 and sum(job.seconds for job in jobs) > PROCESS_SECONDS
    memory = (available_memory() or _UNKNOWN_MEMORY) // (2 * processes_here)
    if processes:
        cores = max(1, min(cores, memory // (2 * _PROCESS_BYTES)))
        memory -= cores * _PROCESS_BYTES
    return cores, MemoryBudget(max(memory, 1)), processes


class _Workers:
    """Processes, each of which calls one function at a time; one that died is replaced when it is needed."""

    def __init__(self, number: int) -> None:
        self._all = [_Worker() for _ in range(number)]
        self._idle = list(self._all)

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        """Call a function in an idle process. Raises: as ``_Worker.call``."""
        worker = self._idle.pop()
        if worker.has_ended:
            worker = _Worker()
            self._all.append(worker)
        try:
            return worker.call(function, item)
        finally:
            self._idle.append(worker)

    def kill(self) -> None:
        """End all processes at once."""
        for worker in self._all:
            worker.kill()

    def close(self) -> None:
        """Let all processes end and wait for them."""
        for worker in self._all:
            worker.close()


class _Worker:
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
        """Call a function in the process.

        Raises: what the function raises; TrainingError if the process dies.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((function, item), self._process.stdin)
            self._process.stdin.flush()
            good, result = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = self._process.wait()
            raise TrainingError(
                f"a process that worked on a case died (exit code {code})",
                hint="If memory was short, close other programs and start again: cases prepared so far stay in "
                "the cache.",
            ) from error
        if not good:
            raise result
        return result

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """Let the process end and wait for it."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # it died before it read everything
                    continue
        self._process.wait()


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer calls until the stream of requests ends."""
    while True:
        try:
            function, item = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (True, function(item))
        except Exception as error:  # any error of the function is raised in the calling process
            answer = (False, _portable(error))
        pickle.dump(answer, answers)
        answers.flush()


def _portable(error: Exception) -> Exception:
    """Return the exception, or its text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # pickling runs code of the exception's class, which may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def main() -> None:
    """Serve the process that started this one; functions' output goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, answers)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)


if __name__ == "__main__":
    main()
