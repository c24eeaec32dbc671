"""One cell as a process: its start, its log, its state and its end."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from medseg.files import remove_stale_temporaries
from medseg.study.executors.protocol import HEADER, CellCommand, CellResult
from medseg.study.executors.shares import Share
from medseg.study.executors.state import CellState, write_state
from medseg.system.platform import process_token
from medseg.system.processes.lifetime import kill_group

GRACE_SECONDS = 60.0
"""Time that a process has to save its state after SIGTERM."""
_POLL_SECONDS = 0.2


def _never() -> bool:
    return False


def run_cell(cell: CellCommand, share: Share | None = None, *, stop: Callable[[], bool] = _never) -> CellResult:
    """Run a command to its end, with its output in its log file and its state in its folder.

    The process ends with the calling thread, in whatever way that ends.

    Args:
        cell: the command.
        share: the cores and the GPU that it may use.
        stop: asked several times a second; once it returns True, the process is asked to save its state and
            to end, and is killed after ``GRACE_SECONDS``.
    """
    share, command = share or Share(), cell.arguments()
    cell.folder.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(cell.folder)
    state = CellState("running", time.time(), process=process_token(), host=socket.gethostname())
    began = time.monotonic()
    with cell.log.open("ab") as log:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        log.write(f"\n{HEADER}{now} {shlex.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            _launch_command(command, share), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, **cell.environment, **share.environment()}, start_new_session=True,
        )  # fmt: skip
        try:
            write_state(cell.folder, state)
            exit_code, stopped = _wait(process, stop)
        except BaseException:  # the executor itself is ended
            _end(process)
            _record_end(state, CellResult(cell, process.returncode, time.monotonic() - began, stopped=True))
            raise
    result = CellResult(cell, exit_code, time.monotonic() - began, stopped)
    _record_end(state, result)
    return result


def _launch_command(command: list[str], share: Share) -> list[str]:
    cores = ",".join(map(str, share.cores)) or "all"
    return [sys.executable, "-m", "medseg.system.processes.child", str(os.getpid()), cores, *command]


def _wait(process: subprocess.Popen[bytes], stop: Callable[[], bool]) -> tuple[int, bool]:
    """Wait for the end of a process; return its exit code, and whether it was ended."""
    while True:
        try:
            return process.wait(_POLL_SECONDS), False
        except subprocess.TimeoutExpired:
            if stop():
                _end(process)
                return process.returncode, process.returncode != 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and kill it with everything it started if it does not."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        kill_group(process)
        process.wait()


def _record_end(state: CellState, result: CellResult) -> None:
    status = "stopped" if result.stopped else "complete" if result.succeeded else "failed"
    ended = replace(
        state, status=status, exit_code=result.exit_code, seconds=round(result.seconds, 3), process=""
    )
    write_state(result.cell.folder, ended)
