"""One training as a process, which ends with the server and can be stopped and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from medseg.system.processes.lifetime import kill_group
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import read_log

Status = Literal["RUNNING", "DONE", "STOPPED", "ERROR"]
_GRACE_SECONDS = 60.0
_SHOWN = 20
_TIME = "%Y-%m-%d %H:%M:%S"


def _now() -> str:
    return datetime.now().astimezone().strftime(_TIME)


@dataclass
class TrainingProcess:
    """A training that was started.

    Attributes:
        model: name of the model that is trained.
        run: its run folder.
        command: arguments of ``medseg``.
        on_success: called in the thread of the process once the training is complete.
    """

    model: str
    run: Path
    command: Sequence[str]
    on_success: Callable[[], None]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: Status = "RUNNING"
    started: str = field(default_factory=_now)
    ended: str = ""
    exit_code: int | None = None

    def start(self) -> None:
        """Start the process and return; the system asks it to stop when the thread that waits for it ends."""
        self._ready, self._done, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        threading.Thread(target=self._run, name="training", daemon=True).start()
        self._ready.wait()

    @property
    def is_running(self) -> bool:
        """Whether the training has not ended."""
        return not self._done.is_set()

    def stop(self, seconds: float = _GRACE_SECONDS) -> None:
        """Ask the process to save its state and to end, and wait; kill it if it takes too long."""
        self._stop.set()
        if self._process is not None and self.is_running:
            self._process.terminate()
            if not self._done.wait(seconds):
                kill_group(self._process)
                self._done.wait(5)

    def describe(self) -> dict[str, Any]:
        """Describe the training for clients; what the process prints stays here: it may name patients."""
        return {
            "id": self.id, "status": self.status, "model": self.model, "request": {"model": self.model},
            "start_ts": self.started, "end_ts": self.ended or None, "exit_code": self.exit_code,
            "details": _epochs(self.run) or ["preparing"], "result": None,
        }  # fmt: skip

    def statistics(self) -> dict[str, Any]:
        """Return the progress as clients show it."""
        return (
            training_statistics(self.run)
            | {"start_time": self.started}
            | ({} if self.is_running else {"total_time": self.ended})
        )

    @property
    def output(self) -> Path:
        """File with what the process prints, beside the run folder."""
        return self.run.with_name(f"{self.run.name}.log")

    def _run(self) -> None:
        try:
            self.exit_code = self._wait_for_process()
        finally:
            self._ready.set()
            stopped = self._stop.is_set() and self.exit_code != 0
            self.status = "STOPPED" if stopped else "DONE" if self.exit_code == 0 else "ERROR"
            self.ended = _now()
            try:
                if self.status == "DONE":
                    self.on_success()
            finally:
                self._done.set()

    def _wait_for_process(self) -> int:
        self.run.parent.mkdir(parents=True, exist_ok=True)
        parent = f"{os.getpid()}:{int(signal.SIGTERM)}"  # if the server is killed, its state is saved
        launched = [sys.executable, "-m", "medseg.system.processes.child", parent, "all"]
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*launched, sys.executable, "-m", "medseg", *self.command], stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self._ready.set()
            return self._process.wait()


def describe_interrupted(model: str, run: Path) -> dict[str, Any]:
    """Describe a training that ended with an earlier server, as `TrainingProcess.describe` does.

    Args:
        model: name of the model.
        run: its run folder, without a complete model.
    """
    files = [path for path in (RunFolder(run).config, run / "log.jsonl", RunFolder(run).last) if path.exists()]
    times = sorted(path.stat().st_mtime for path in (*files, run))
    continues = "the next start of this training continues it"
    if not RunFolder(run).last.exists():
        continues = "it had saved no state: the next start begins anew"
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, run.name)), "status": "STOPPED", "model": model,
        "request": {"model": model}, "start_ts": _text(times[0]), "end_ts": _text(times[-1]), "exit_code": None,
        "details": [*_epochs(run), f"interrupted: its server ended; {continues}"], "result": None,
    }  # fmt: skip


def _epochs(run: Path) -> list[str]:
    """Return the last epochs of a run, one line each."""
    entries = read_log(run / "log.jsonl")
    lines = [f"epoch {one['epoch']}  loss {one['loss']:.4f}" for one in entries if one.get("loss") is not None]
    return lines[-_SHOWN:]


def _text(time: float) -> str:
    return datetime.fromtimestamp(time).astimezone().strftime(_TIME)


def training_statistics(run: Path) -> dict[str, Any]:
    """Return epoch, number of epochs and best score of a run folder."""
    entries = read_log(run / "log.jsonl")
    scores = [entry["val_dice"] for entry in entries if isinstance(entry.get("val_dice"), int | float)]
    epoch = entries[-1]["epoch"] if entries else 0
    planned = RunFolder(run).planned_epochs() or 1
    return {"epoch": epoch, "total_epochs": max(planned, epoch), "best_metric": max(scores, default=0)}
