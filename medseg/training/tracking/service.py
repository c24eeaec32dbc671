"""A tracking service as a callback that never stops a training."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from medseg.errors import TrainingStopped
from medseg.files import write_json
from medseg.geometry import Array
from medseg.training.tracking.callbacks import Callback, EpochInfo, LogEntry, TrainStart
from medseg.training.tracking.sent_record import SentRecord, numbers

if TYPE_CHECKING:
    from medseg.training.run_folder.result import RunResult

_LOGGER = logging.getLogger(__name__)

Outcome = Literal["finished", "stopped", "failed"]
"""How a training ended: complete, by a signal, or by an error."""

_LEAST_PAUSE, _PAUSE_FACTOR = 60.0, 30.0
"""After a failure, a service rests for this many seconds, or this many times the time of the attempt."""


class Service(Protocol):
    """Sends the course of a training to a tracking service; any exception is allowed."""

    label: str
    """Name of the service in messages."""
    place: str
    """Where its runs are; a run is continued in the same place only."""

    def open(self, record: SentRecord, run_id: str | None) -> str:
        """Begin a run, or continue an earlier one, and return its id.

        Args:
            record: name, settings and facts.
            run_id: of the earlier run; if it does not exist any more, a new one begins.
        """
        ...

    def log(self, step: int, values: Mapping[str, float], pictures: Mapping[str, Array]) -> None:
        """Log the numbers and the pictures, (H, W, 3) of uint8, of a step."""
        ...

    def close(self, outcome: Outcome, model: Path | None) -> None:
        """End the run.

        Args:
            outcome: how the training ended.
            model: the model file; None if there is none.
        """
        ...


@dataclass
class _Line:
    """A line of the log that the service has not received yet."""

    entry: LogEntry
    pictures: Mapping[str, Array] = field(default_factory=dict[str, Array])


class ServiceCallback(Callback):
    """Sends a training to a service, and continues the same run of the service after a resumption.

    The first failure is a warning. The training goes on; what could not be sent is kept and sent later, after a
    pause, at the end, or when the run is resumed. Attempts take at most about 3% of the time.

    Args:
        service: the service.
        file: records the id of the run and the last step that was sent (``tracking.json``).
        key: of the service in this file.
        run_name: name of the run; if None, that of the run folder.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        service: Service,
        file: Path,
        key: str,
        run_name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service, self.file, self.key, self.run_name, self.clock = service, file, key, run_name, clock
        self._start: TrainStart | None = None
        self._waiting: deque[_Line] = deque()
        self._opened = self._failed = False
        self._next_attempt = 0.0

    def on_train_start(self, info: TrainStart) -> None:
        """Begin or continue the run of the service."""
        self._start = info
        self._attempt(self._send)

    def on_epoch_end(self, info: EpochInfo) -> None:
        """Send the line of the epoch and its pictures."""
        self._waiting.append(_Line(info.log, info.pictures))
        if self.clock() >= self._next_attempt:
            self._attempt(self._send)

    def on_train_end(self, info: RunResult) -> None:
        """Send the model file and end the run."""
        self._attempt(lambda: self._close("finished", info.model))

    def on_train_error(self, error: BaseException) -> None:
        """End the run without a model file."""
        if self.clock() < self._next_attempt:  # there is little time after a signal
            return
        stopped = isinstance(error, TrainingStopped | KeyboardInterrupt | SystemExit)
        self._attempt(lambda: self._close("stopped" if stopped else "failed", None))

    def _attempt(self, action: Callable[[], None]) -> None:
        """Call a function; log the first failure."""
        began = self.clock()
        try:
            action()
        except Exception as error:  # a tracking service is not worth a training
            now = self.clock()
            self._next_attempt = now + max(_LEAST_PAUSE, _PAUSE_FACTOR * (now - began))
            for line in self._waiting:
                line.pictures = {}  # only the numbers are kept
            text = " ".join(str(error).split()) or type(error).__name__
            if not self._failed:
                _LOGGER.warning("%s failed: %s. The training is not affected", self.service.label, text[:300])
            _LOGGER.debug("%s failed", self.service.label, exc_info=True)
            self._failed = True

    def _send(self) -> None:
        """Send what the service has not received yet."""
        if not self._opened:
            self._open()
        before = sent = self._recorded().get("step", -1)
        try:
            while self._waiting:
                line = self._waiting[0]
                step = int(line.entry["step"])
                if step > sent:  # a resumed run repeats the end of an epoch
                    self.service.log(step, numbers(line.entry), line.pictures)
                    sent = step
                self._waiting.popleft()
        finally:
            if sent != before:
                self._record(step=sent)

    def _open(self) -> None:
        """Begin the run of the service, or continue it; then put lines that it lacks before the others."""
        assert self._start is not None
        earlier = self._recorded().get("run")
        run = self.service.open(SentRecord.of(self._start, self.run_name), earlier)
        if run != earlier:
            self._record(run=run, step=-1)
        self._waiting.extendleft(_Line(entry) for entry in reversed(self._start.history))
        self._opened = True

    def _close(self, outcome: Outcome, model: Path | None) -> None:
        if self._start is None:
            return
        self._send()
        self.service.close(outcome, model)
        self._opened = False

    def _recorded(self) -> dict[str, Any]:
        """The record of the run in the service's present place; empty for a new run."""
        record = _read(self.file).get(self.key, {})
        return record if record.get("place") == self.service.place else {}

    def _record(self, **changed: Any) -> None:
        record = {"place": self.service.place, **self._recorded(), **changed}
        write_json(self.file, {**_read(self.file), self.key: record})


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
