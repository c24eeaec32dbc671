"""What a training reports to whoever watches: nothing, plain lines, or a live bar.

Messages (what changed, what is assumed, what slows a training down) go to the logger ``medseg.training``, and
to the run's ``messages.log``.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LOGGER = logging.getLogger("medseg.training")


class Progress(Protocol):
    """The events of a training."""

    def found(self, layout: str) -> None:
        """The cases were found; ``layout`` says in what layout and how many."""
        ...

    def prepared(self, case: str) -> None:
        """A case is in the cache."""
        ...

    def update(self, step: int, steps: int, loss: float) -> None:
        """The weights were updated."""
        ...

    def epoch(self, entry: dict[str, Any]) -> None:
        """An epoch ended; ``entry`` is its line of the log."""
        ...


class Count:
    """Says every ten seconds how many of the cases are done; called as each is."""

    every = 10.0

    def __init__(self, say: Callable[[str], None], what: str, total: int) -> None:
        self.say, self.what, self.total = say, what, total
        self.done = 0
        self.said = time.monotonic()

    def __call__(self, case: str) -> None:
        """One more is done."""
        self.done += 1
        if time.monotonic() - self.said >= self.every:
            self.said = time.monotonic()
            self.say(f"{self.what}: {self.done} of {self.total}")


@runtime_checkable
class ValidationProgress(Protocol):
    """A progress that is also called during a validation."""

    def validating(self, case: int, cases: int) -> None:
        """A validation begins with a case, counted from 1."""
        ...


class QuietProgress:
    """Says nothing."""

    def found(self, layout: str) -> None:
        """Nothing."""

    def prepared(self, case: str) -> None:
        """Nothing."""

    def update(self, step: int, steps: int, loss: float) -> None:
        """Nothing."""

    def epoch(self, entry: dict[str, Any]) -> None:
        """Nothing."""


class ConsoleProgress:
    """A live bar on a terminal; elsewhere a plain line an epoch, and one every ``every`` seconds in between.

    All of it goes to standard error. The lines in between come from a thread: they come, too, while a large
    case is validated or an update takes long.
    """

    def __init__(self, *, every: float = 30.0) -> None:
        self.console = Console(file=sys.stderr, highlight=False)
        self.every = every
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.job = self.bar.add_task("training", total=None)
        self.cases = 0
        self.status = "looking at the cases"
        self.pace: Pace | None = None
        self.printed = time.monotonic()
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None
        self.handler = _ConsoleHandler(self)

    def __enter__(self) -> ConsoleProgress:
        """Show the bar, or begin with the lines; messages of the training are printed, too."""
        self.bar.start()
        LOGGER.addHandler(self.handler)
        if not self.console.is_terminal:
            self.thread = threading.Thread(target=self._report_often, name="medseg-progress", daemon=True)
            self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self.ended.set()
        if self.thread is not None:
            self.thread.join()
        LOGGER.removeHandler(self.handler)
        self.bar.stop()

    def found(self, layout: str) -> None:
        """Print the line."""
        self.line(layout)

    def prepared(self, case: str) -> None:
        """Count the cases prepared."""
        self.cases += 1
        self.status = f"preparing: {self.cases} cases"
        self.bar.update(self.job, description=self.status)

    def update(self, step: int, steps: int, loss: float) -> None:
        """Move the bar."""
        self.pace = self.pace or Pace(step)
        self.status = self.pace.describe(step, steps, loss)
        self.bar.update(self.job, completed=step, total=steps, description=f"training, loss {loss:.3f}")

    def validating(self, case: int, cases: int) -> None:
        """Note the case."""
        self.status = f"validating: case {case} of {cases}"
        self.bar.update(self.job, description=self.status)

    def epoch(self, entry: dict[str, Any]) -> None:
        """Print the epoch's line."""
        parts = [f"epoch {entry['epoch']}", f"step {entry['step']}", f"loss {entry['loss']:.4f}"]
        parts += [
            f"{key.removeprefix('val_')} {value:.4f}" if value is not None else f"{key.removeprefix('val_')} –"
            for key, value in entry.items()
            if key.startswith("val_dice")
        ]
        parts.append(f"{entry['seconds']:.1f} s")
        self.line("  ".join(parts))

    def line(self, text: str) -> None:
        """Print one line above the bar."""
        self.console.print(text, soft_wrap=True, markup=False)
        self.printed = time.monotonic()

    def _report_often(self) -> None:
        """Print where the training is whenever nothing was printed for a while."""
        while not self.ended.wait(max(self.printed + self.every - time.monotonic(), 0.01)):
            if time.monotonic() - self.printed >= self.every:
                self.line(self.status)


class Pace:
    """How fast a training goes: since it began in this process, validations included."""

    def __init__(self, step: int) -> None:
        self.first, self.began = step, time.monotonic()
        self.last, self.seconds = self.began, 0.0

    def describe(self, step: int, steps: int, loss: float) -> str:
        """The line of an update: step, loss, seconds an update, time left."""
        now = time.monotonic()
        if step > self.first:
            recent = now - self.last
            self.seconds = recent if step == self.first + 1 else 0.9 * self.seconds + 0.1 * recent
        self.last = now
        text = f"step {step} of {steps}  loss {loss:.4f}"
        if step == self.first:
            return text
        left = (now - self.began) / (step - self.first) * (steps - step)
        return f"{text}  {self.seconds:.2f} s an update  about {duration(left)} left"


def duration(seconds: float) -> str:
    """A time in words, as coarse as it is long."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append the messages of the training to a file, with the time of each."""
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


class _ConsoleHandler(logging.Handler):
    """Prints the messages of a training among its other lines."""

    def __init__(self, progress: ConsoleProgress) -> None:
        super().__init__(logging.INFO)
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        self.progress.line(prefix + record.getMessage())
