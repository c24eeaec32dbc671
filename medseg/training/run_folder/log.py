"""The logs of a run: ``log.jsonl`` with one object per epoch, TensorBoard, and ``messages.log``."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from medseg.files import write_text
from medseg.geometry import Array
from medseg.progress import LOGGER

_LOGGER = logging.getLogger(__name__)


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
        self._failed = False

    def append(self, entry: dict[str, Any], pictures: Mapping[str, Array] | None = None) -> None:
        """Append an epoch; its numbers become curves over the steps in TensorBoard.

        Args:
            entry: the line of ``log.jsonl``.
            pictures: of validation cases, (H, W, 3), for TensorBoard.
        """
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        with self._warn_once():
            for key, value in entry.items():
                if key not in ("epoch", "step") and value is not None:
                    self.writer.add_scalar(curve_name(key), value, entry["step"])
            for name, picture in (pictures or {}).items():
                self.writer.add_image(name, picture, entry["step"], dataformats="HWC")
            self.writer.flush()

    def close(self) -> None:
        """Close the file of TensorBoard."""
        with self._warn_once():
            self.writer.close()

    @contextmanager
    def _warn_once(self) -> Iterator[None]:
        """Log the first error of TensorBoard; curves are not worth a training."""
        try:
            yield
        except Exception as error:
            if not self._failed:
                _LOGGER.warning("the log for TensorBoard is incomplete: %s", error)
            self._failed = True


def curve_name(key: str) -> str:
    """Return the name of a curve in TensorBoard and other services for a key of ``log.jsonl``.

    Example:
        >>> curve_name("val_dice:left lung")
        'val/dice/left lung'
    """
    return key.replace("_", "/", 1).replace(":", "/")


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


def describe_epoch(entry: dict[str, Any]) -> str:
    """Format an entry of the log as one line.

    Example:
        >>> describe_epoch({"epoch": 1, "step": 4, "loss": 0.5, "seconds": 2.0, "val_dice": 0.75})
        'epoch 1  step 4  loss 0.5000  dice 0.7500  2.0 s'
    """
    parts = [f"epoch {entry['epoch']}", f"step {entry['step']}", f"loss {entry['loss']:.4f}"]
    parts += [
        f"{key.removeprefix('val_')} " + ("–" if value is None else f"{value:.4f}")
        for key, value in entry.items()
        if key.startswith(("val_dice", "val_instances", "val_clicks"))
    ]
    return "  ".join([*parts, f"{entry['seconds']:.1f} s"])
