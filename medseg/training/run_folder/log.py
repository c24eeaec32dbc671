"""The logs of a run: ``log.jsonl`` with one object per epoch, TensorBoard, and ``messages.log``."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from medseg.files import write_text
from medseg.progress import LOGGER


class RunLog:
    """Appends to the log of a run.

    Args:
        path: of ``log.jsonl``.
        tensorboard: folder for TensorBoard.
        step: lines of later steps, which a resumed run repeats, are removed.
    """

    def __init__(self, path: Path, tensorboard: Path, step: int = 0) -> None:
        self.path = path
        kept = [json.dumps(entry) for entry in read_log(path) if entry["step"] <= step]
        write_text(path, "".join(line + "\n" for line in kept))
        self.writer = SummaryWriter(tensorboard, purge_step=step + 1)

    def append(self, entry: dict[str, Any]) -> None:
        """Append an epoch; its numbers become curves over the steps."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        for key, value in entry.items():
            if key not in ("epoch", "step") and value is not None:
                self.writer.add_scalar(key.replace("_", "/", 1).replace(":", "/"), value, entry["step"])
        self.writer.flush()

    def close(self) -> None:
        """Close the file of TensorBoard."""
        self.writer.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the entries of a ``log.jsonl``; a line cut off by a crash is left out."""
    entries: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return entries


@contextmanager
def write_messages(path: Path) -> Iterator[None]:
    """Append all messages of the logger ``medseg`` to a file, with the time of each, inside the block."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = LOGGER.level
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        handler.close()
