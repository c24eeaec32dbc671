"""Claims of trials: which process works on a trial, and whether it still does.

A process claims a trial by creating the next file in the trial's folder ``claims``; creating a file that exists
fails, on network file systems too, so that one process wins. A claim ends when it is released, when its process
has ended (on the same machine), or when it has no sign of life (on another machine): the process updates the
time of the file every half minute.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from medseg.files import TEMPORARY, write_json
from medseg.system.platform import file_lock, has_ended, process_token

SILENT_SECONDS = 300.0
"""Age of the last sign of life from which a process on another machine counts as ended."""
_SIGN_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Claims:
    """The claims of one trial.

    Attributes:
        folder: where they are recorded.
    """

    folder: Path

    def is_held(self) -> bool:
        """Return whether a process works on the trial."""
        files = self._files()
        return bool(files) and _is_alive(files[-1])

    def count(self) -> int:
        """Return how many processes have claimed the trial."""
        return len(self._files())

    def deaths(self, progress: str = "") -> int:
        """Return how many processes in a row were killed while they worked on the trial and got no further.

        Args:
            progress: how far the trial is now, as in :meth:`take`.
        """
        count = 0
        for file in reversed(self._files()):
            claim = _read(file)
            if claim.get("released") or claim.get("progress", "") != progress or _is_alive(file):
                break
            count += 1
        return count

    @contextmanager
    def held(self, claim: Path) -> Iterator[None]:
        """Show signs of life of a claim inside the block, and release it at the end, also after an error."""
        ended = threading.Event()
        thread = threading.Thread(target=_show_life, args=(claim, ended), name="medseg-claim", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            write_json(claim, {**_read(claim), "released": True})

    def take(self, progress: str = "") -> Path | None:
        """Claim the trial; None if a process works on it or another one claims it at the same time.

        Args:
            progress: how far the trial is; it changes with every checkpoint.
        """
        if self.is_held():
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        claim = self.folder / f"{len(self._files()) + 1:03}.json"
        temporary = self.folder / f"{TEMPORARY}{process_token()}-{uuid4().hex[:8]}"
        temporary.write_text(json.dumps({"process": process_token(), "progress": progress}), encoding="utf-8")
        try:
            os.link(temporary, claim)  # fails if the file exists
        except FileExistsError:
            return None
        finally:
            temporary.unlink()
        return claim

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.json"))


@contextmanager
def wait_for_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file inside the block; wait while another process holds it.

    File systems without locks are not protected.
    """
    while True:
        with file_lock(path) as held:
            if held:
                yield
                return
        time.sleep(_POLL_SECONDS)


def _read(claim: Path) -> dict[str, Any]:
    try:
        content = json.loads(claim.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_alive(claim: Path) -> bool:
    content = _read(claim)
    if content.get("released"):
        return False
    ended = has_ended(str(content.get("process", "")))
    return _silence(claim) < SILENT_SECONDS if ended is None else not ended


def _silence(claim: Path) -> float:
    """Return the seconds since the last sign of life, by the clock of the file system that holds the claim."""
    probe = claim.with_name(f"{TEMPORARY}{process_token()}-{uuid4().hex[:8]}")
    try:
        probe.touch()
        return probe.stat().st_mtime - claim.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _show_life(claim: Path, ended: threading.Event) -> None:
    while not ended.wait(_SIGN_SECONDS):
        with suppress(OSError):
            os.utime(claim)
