"""The log of a run: ``log.jsonl``, one object an epoch, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from medseg.files import write_text


class RunLog:
    """Appends to a run's log. Lines of steps after ``step``, which a resumed run does again, are dropped."""

    def __init__(self, path: Path, tensorboard: Path, step: int = 0) -> None:
        self.path = path
        kept = [json.dumps(entry) for entry in read_log(path) if entry["step"] <= step]
        write_text(path, "".join(line + "\n" for line in kept))
        self.writer = SummaryWriter(tensorboard, purge_step=step + 1)

    def append(self, entry: dict[str, Any]) -> None:
        """Add an epoch; numbers of it become curves over the steps."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        for key, value in entry.items():
            if key not in ("epoch", "step") and value is not None:
                self.writer.add_scalar(key.replace("_", "/", 1).replace(":", "/"), value, entry["step"])
        self.writer.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        self.writer.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a ``log.jsonl``; a line cut off by a crash is left out."""
    entries: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return entries
