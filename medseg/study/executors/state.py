"""The state of a cell, recorded in its folder."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from medseg.files import write_json, write_text
from medseg.system.platform import has_ended

STATE_FILE, JOB_FILE = "state.json", "job.txt"

CellStatus = Literal["waiting", "running", "complete", "failed", "stopped"]
"""``stopped``: interrupted, killed, or lost with its machine; it continues when the study is run again."""


@dataclass(frozen=True)
class CellState:
    """What is known of a cell.

    Attributes:
        status: of the cell.
        began: time of its start, in seconds since 1970.
        seconds: duration of its last run, once it has ended.
        exit_code: of its last run.
        process: identifies the process that runs it, see ``process_token``.
        host: name of the machine that runs it.
    """

    status: CellStatus = "waiting"
    began: float = 0.0
    seconds: float = 0.0
    exit_code: int | None = None
    process: str = ""
    host: str = ""

    @property
    def elapsed(self) -> float:
        """Seconds since its start while it runs, else the duration of its last run."""
        return time.time() - self.began if self.status == "running" else self.seconds


def write_state(folder: Path, state: CellState) -> None:
    """Record the state of a cell in its folder."""
    write_json(folder / STATE_FILE, asdict(state))


def read_state(folder: Path) -> CellState:
    """Read the state of a cell: ``waiting`` without a record; ``stopped`` if its process no longer exists."""
    try:
        state = CellState(**json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return CellState()
    if state.status == "running" and has_ended(state.process):
        return CellState("stopped", state.began, host=state.host)
    return state


def write_job(folder: Path, job: str) -> None:
    """Record the number of a cell's job in the queue of a cluster."""
    write_text(folder / JOB_FILE, f"{job}\n")


def read_job(folder: Path) -> str:
    """Read the number of a cell's job in the queue of a cluster; empty if it has none."""
    try:
        return (folder / JOB_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
