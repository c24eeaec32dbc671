"""Locks: of a folder that only one process at a time may write to, and of a step that takes turns."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medseg.errors import ConfigError
from medseg.system.platform import file_lock

LOCK_NAME = ".medseg.lock"


@contextmanager
def lock_folder(folder: Path, hint: str) -> Iterator[None]:
    """Hold the lock of a folder while the block runs.

    The lock is released when the process ends, in whatever way. File systems without locks are not protected.

    Args:
        folder: the folder, created if it does not exist, and removed again if it is then still empty.
        hint: hint of the error that is raised if the lock is taken.

    Raises:
        ConfigError: if another process, on this or another machine, holds the lock.
    """
    path, existed = folder / LOCK_NAME, folder.is_dir()
    with file_lock(path) as held:
        if not held:
            raise ConfigError(
                f"{folder}: another process writes to this folder ({_owner(path)})", hint=hint, path=folder
            )
        with suppress(OSError):  # the lock also works if the disk is full
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
                if not existed:
                    folder.rmdir()  # fails unless it is empty


def is_locked(folder: Path) -> bool:
    """Whether another process holds the lock of a folder."""
    path = folder / LOCK_NAME
    if not path.exists():
        return False
    with file_lock(path) as held:
        return not held


@contextmanager
def wait_for_lock(path: Path, *, patience: float = 60.0) -> Iterator[None]:
    """Hold the lock of a file while the block runs, after waiting for other processes.

    Args:
        path: the file, which is created and removed.
        patience: seconds after which the block runs without the lock.
    """
    deadline = time.monotonic() + patience
    while True:
        with file_lock(path) as held:
            if held or time.monotonic() >= deadline:
                yield
                if held:
                    with suppress(OSError):
                        path.unlink()
                return
        time.sleep(0.05)


def _owner(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip() or "owner unknown"
    return "owner unknown"
