"""The time that a training may take."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from medseg.config.duration import parse_minutes
from medseg.files import write_json
from medseg.system.platform import process_age

_NOTE_SECONDS = 10.0


def read_clock(file: Path) -> float:
    """Return the seconds that a run records to have used; 0 without a record."""
    try:
        return float(json.loads(file.read_text(encoding="utf-8"))["seconds_used"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


@dataclass
class TimeBudget:
    """The time that a training may take, from the planning to the model file.

    Time counts while a process works on the training: a pause between two processes of a run does not.

    Attributes:
        seconds: the budget.
        clock: returns the time in seconds.
        began: reading of the clock when the budget began; by default when the object is created.
        earlier: seconds used by earlier processes of the run.

    Example:
        >>> budget = TimeBudget.of("20min")
        >>> budget.seconds
        1200.0
    """

    seconds: float
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    began: float | None = None
    earlier: float = 0.0

    def __post_init__(self) -> None:
        self._began = self.clock() if self.began is None else self.began
        self._file: Path | None = None
        self._noted = -math.inf

    @classmethod
    def of(cls, duration: str | float) -> TimeBudget:
        """Return the budget for a duration: minutes, or text such as ``20min``; it begins now."""
        return cls(round(60 * parse_minutes(duration), 6))

    @classmethod
    def of_command(cls, duration: str | float) -> TimeBudget:
        """Return the budget for a duration that began when this process was started."""
        return cls(cls.of(duration).seconds, began=time.monotonic() - process_age())

    @property
    def minutes(self) -> float:
        """The budget in minutes, as in ``train.budget``."""
        return self.seconds / 60

    def used(self) -> float:
        """Return the seconds used so far."""
        return self.earlier + self.clock() - self._began

    def follow(self, file: Path, used: float = 0.0) -> None:
        """Count the time that earlier processes of a run used, and record it from now on.

        Called again with the same file, it changes nothing.

        Args:
            file: where the run records the time that it used.
            used: seconds that the checkpoint of the run records.
        """
        if file == self._file:
            return
        self.earlier = max(read_clock(file), used)
        self._file = file
        self.note(at_once=True)

    def note(self, *, at_once: bool = False) -> None:
        """Record the time used so far, every few seconds or at once."""
        used = self.used()
        if self._file is not None and (at_once or used - self._noted >= _NOTE_SECONDS):
            write_json(self._file, {"seconds_used": round(used, 3)})
            self._noted = used
