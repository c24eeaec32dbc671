"""A lock on a folder that one process at a time writes to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medseg.errors import ConfigError
from medseg.system.platform import file_lock

LOCK_NAME = ".medseg.lock"


@contextmanager
def lock_folder(folder: Path, advice: str) -> Iterator[None]:
    """Hold the lock of ``folder`` (made if it is not there) while the block runs.

    It ends with the process, however that ends. On file systems without locks the block runs all the same.
    Raises: ConfigError if another process, here or on another machine, holds it; it ends with ``advice``.
    """
    path = folder / LOCK_NAME
    with file_lock(path) as held:
        if not held:
            raise ConfigError(f"{folder}: another process writes to this folder ({_owner(path)}). {advice}")
        with suppress(OSError):  # on a full disk the lock holds all the same
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _owner(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip() or "owner unknown"
    return "owner unknown"
