"""Detects that a process of a training died, and names it."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

from medseg.errors import MedsegError
from medseg.system.platform import has_ended, process_token
from medseg.system.processes.launch import Launch

_LOGGER = logging.getLogger(__name__)

_PERIOD = 1.0
"""Seconds between two signs of life."""
_GRACE = 10.0
"""Seconds that the process has to end by itself after another one died."""
EXIT_OTHER_DIED = 1


class RankWatch:
    """Exchanges signs of life with the other processes, in a thread.

    A process on the same machine is detected as dead at once, one on another machine when it is silent for some
    time, or when it reported an error. A communication between GPUs may then wait for minutes; if this process
    does not end by itself within 10 s, the thread ends it.

    Args:
        store: common to all processes; used by the thread and by :meth:`explain`.
        launch: the place of this process.
        silence: seconds without a sign of life after which a process counts as dead.
    """

    def __init__(self, store: Store, launch: Launch, silence: float) -> None:
        self._store, self._launch, self._silence = store, launch, silence
        self._others = [rank for rank in range(launch.size) if rank != launch.rank]
        self._seen: dict[int, tuple[str, float]] = {}
        self._lock, self._stop, self._beats = threading.Lock(), threading.Event(), 0
        self._found: str | None = None
        self._processes: list[list[str]] = []
        process = f"{process_token()} {os.getpid()} {socket.gethostname()}"
        self._store.set(self._key("process", launch.rank), process)
        self._thread = threading.Thread(target=self._run, name="medseg-rank-watch", daemon=True)

    def start(self) -> None:
        """Begin; every process must have created its watch before."""
        self.read_processes()
        self._thread.start()

    def read_processes(self) -> None:
        """Read which processes the others are."""
        keys = [self._key("process", rank) for rank in range(self._launch.size)]
        self._processes = [self._store.get(key).decode().split(" ", 2) for key in keys]

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _PERIOD)

    def report(self, error: BaseException) -> None:
        """Let the other processes know the error that ends this one."""
        text = error.message if isinstance(error, MedsegError) else f"{type(error).__name__}: {error}"
        try:
            self._store.set(self._key("error", self._launch.rank), text)
        except RuntimeError:  # the store ended with the process that holds it
            _LOGGER.debug("the other processes cannot be informed", exc_info=True)

    def explain(self, patience: float) -> str | None:
        """Return a sentence about the process that died, waiting for the evidence; None if all are alive."""
        until = time.monotonic() + patience
        while True:
            found = self._check()
            if found is not None or time.monotonic() >= until:
                return found
            time.sleep(0.1)

    def error_of(self, rank: int, patience: float) -> str | None:
        """Return the error that a process reported, waiting for it; None if it did not."""
        until, key = time.monotonic() + patience, self._key("error", rank)
        while True:
            try:
                if self._store.check([key]):
                    return self._store.get(key).decode()
            except RuntimeError:
                return None
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD):
            found = self._check()
            if found is None:
                continue
            _LOGGER.debug(found)  # in messages.log; the error of the main thread is printed
            if not self._stop.wait(_GRACE):
                sys.stderr.write(f"error: {found}\n")
                sys.stderr.flush()
                os._exit(EXIT_OTHER_DIED)
            return

    def _check(self) -> str | None:
        """Give a sign of life, and look at those of the others."""
        with self._lock:
            if self._found is None:
                try:
                    self._beats += 1
                    self._store.set(self._key("beat", self._launch.rank), str(self._beats))
                    self._found = next(filter(None, map(self._problem_of, self._others)), None)
                except RuntimeError as error:
                    _LOGGER.debug("the store cannot be reached: %s", error)
                    self._found = "torchrun, or the process that holds the common store (rank 0), ended"
            return self._found

    def _problem_of(self, rank: int) -> str | None:
        """Return what ended a process; None if it is alive."""
        token, number, host = self._processes[rank]
        name = f"rank {rank} (process {number} on {host})"
        error = self._key("error", rank)
        if self._store.check([error]):
            return f"{name} ended with an error: {self._store.get(error).decode()}"
        if has_ended(token):
            return f"{name} died"
        now, beat = time.monotonic(), self._key("beat", rank)
        value = self._store.get(beat).decode() if self._store.check([beat]) else ""
        before, since = self._seen.get(rank, ("", now))
        self._seen[rank] = (value, since if value == before else now)
        if now - self._seen[rank][1] > self._silence:
            return f"{name} gave no sign of life for {self._silence:.0f} s"
        return None

    @staticmethod
    def _key(kind: str, rank: int) -> str:
        return f"{kind}/{rank}"
