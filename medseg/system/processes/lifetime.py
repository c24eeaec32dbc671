"""How child processes end: with their parent, and with all that they started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: int | None = None) -> None:
    """Let the system end this process when the thread that started it ends, in whatever way (Linux only).

    Args:
        parent: process id of the parent; if it has ended already, this process exits.
        number: the signal that this process then receives; None: it is killed.
    """
    if not sys.platform.startswith("linux"):
        return
    sent = signal.SIGKILL if number is None else number
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, sent, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session, and everything it started; on Windows, the process only."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
