"""Progress of long operations: one protocol, a silent implementation and one for the console.

A long operation receives a :class:`Progress` and reports its stages to it: measuring the cases, preparing
them, training, validating, predicting. Messages (what was detected, what changed, what slows the operation
down) do not go through it: every module sends them to its logger, ``logging.getLogger(__name__)``, below the
logger ``medseg``. :class:`ConsoleProgress` shows both.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LOGGER = logging.getLogger("medseg")
"""The parent of all loggers of medseg."""


class Progress(Protocol):
    """Receives the progress of a long operation.

    An operation has stages that follow one another. A stage may begin inside another one, as a validation
    does inside a training: ``finish`` always ends the stage that began last. All methods are called in the
    thread that runs the operation. An exception that a method raises ends the operation.

    Example:
        >>> class Printed(QuietProgress):
        ...     def start(self, total, description, *, unit="cases", completed=0):
        ...         print(f"{description}: {total} {unit}")
        >>> with stage(Printed(), 2, "measuring"):
        ...     pass
        measuring: 2 cases
    """

    def start(self, total: int, description: str, *, unit: str = "cases", completed: int = 0) -> None:
        """Begin a stage.

        Args:
            total: number of items of the stage.
            description: what the stage does, such as ``"measuring cases"``.
            unit: what is counted, in the plural, which ends with "s".
            completed: items that are done already, such as the updates of a run that is resumed.
        """
        ...

    def advance(self, detail: str = "") -> None:
        """Count one item of the current stage.

        Args:
            detail: the latest result, such as ``"loss 0.1234"``.
        """
        ...

    def resize(self, total: int) -> None:
        """Change the number of items of the current stage, as a training with a time budget does."""
        ...

    def finish(self) -> None:
        """End the current stage, complete or not."""
        ...


@contextmanager
def stage(
    progress: Progress, total: int, description: str, *, unit: str = "cases", completed: int = 0
) -> Iterator[Progress]:
    """Report a stage to a progress; it is finished when the block ends, also by an exception.

    Args:
        progress: receives the stage; the block calls its ``advance``.
        total: number of items of the stage.
        description: what the stage does.
        unit: what is counted, in the plural.
        completed: items that are done already.
    """
    progress.start(total, description, unit=unit, completed=completed)
    try:
        yield progress
    finally:
        progress.finish()


class QuietProgress:
    """A progress that shows nothing; the base class for your own that overrides one or two methods.

    Example:
        >>> quiet = QuietProgress()
        >>> with stage(quiet, 3, "measuring cases"):
        ...     quiet.advance()
    """

    def start(self, total: int, description: str, *, unit: str = "cases", completed: int = 0) -> None:
        """Ignore the stage."""

    def advance(self, detail: str = "") -> None:
        """Ignore the item."""

    def resize(self, total: int) -> None:
        """Ignore the number of items."""

    def finish(self) -> None:
        """Ignore the end."""


QUIET = QuietProgress()
"""The default where no progress is requested."""


@dataclass
class _Stage:
    """A stage and its pace since it began in this process, nested stages included."""

    total: int
    description: str
    unit: str = "cases"
    completed: int = 0
    task: TaskID | None = None
    detail: str = ""
    began: float = field(default_factory=time.monotonic)
    counted: int = 0
    seconds: float = 0.0
    """Seconds per item, a moving average."""

    def __post_init__(self) -> None:
        self.latest = self.began

    def advance(self, detail: str) -> None:
        now = time.monotonic()
        recent, self.latest = now - self.latest, now
        self.seconds = 0.9 * self.seconds + 0.1 * recent if self.counted else recent
        self.completed, self.counted, self.detail = self.completed + 1, self.counted + 1, detail

    def counts(self) -> str:
        """The items done, such as ``3 of 87 cases``."""
        unit = self.unit.removesuffix("s") if self.total == 1 else self.unit
        return f"{self.completed} of {self.total} {unit}"

    def describe(self) -> str:
        """One line: items done, the latest detail, time since the start, seconds per item and time left."""
        parts = [f"{self.description}: {self.counts()}"]
        if self.detail:
            parts.append(self.detail)
        parts.append(f"after {duration(time.monotonic() - self.began)}")
        if self.counted:
            parts.append(f"{self.seconds:.2f} s each")
            parts.append(self.time_left())
        return ", ".join(parts)

    def time_left(self) -> str:
        """The time left at the pace since the start; empty before the first item."""
        if not self.counted:
            return ""
        left = (self.latest - self.began) / self.counted * max(self.total - self.completed, 0)
        return f"about {duration(left)} left"


class ConsoleProgress:
    """Progress and messages on standard error.

    On a terminal there is a live bar for each stage. Elsewhere a line is printed whenever nothing was printed
    for ``every`` seconds; a thread prints it, so it appears even while a single item takes long. Inside the
    ``with`` block the messages of the logger ``medseg`` from level INFO upwards are printed as well.

    Args:
        every: seconds between two lines where standard error is not a terminal.

    Attributes:
        is_live: whether standard error is a terminal on which bars can be shown.

    Example:
        >>> with ConsoleProgress() as progress:  # doctest: +SKIP
        ...     fit(load_config("config.yaml"), "runs/liver", progress=progress)
    """

    def __init__(self, *, every: float = 30.0) -> None:
        from rich.console import Console

        self.every = every
        self._console = Console(file=sys.stderr, highlight=False)
        self.is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._panel: RenderableType | None = None
        self._bar = _create_bar(self._console, lambda: self._panel, live=self.is_live)
        self._stages: list[_Stage] = []
        self._ended: _Stage | None = None
        self._printed = time.monotonic()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._handler = _ConsoleHandler(self)
        self._level = logging.NOTSET

    def __enter__(self) -> ConsoleProgress:
        """Show the bar, or start to print lines."""
        self._bar.start()
        self._level = LOGGER.level
        if LOGGER.getEffectiveLevel() > logging.INFO:
            LOGGER.setLevel(logging.INFO)
        LOGGER.addHandler(self._handler)
        if not self.is_live:
            self._thread = threading.Thread(target=self._print_status, name="medseg-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar and stop printing messages."""
        try:
            self._closed.set()
            if self._thread is not None:
                self._thread.join()
            LOGGER.removeHandler(self._handler)
            LOGGER.setLevel(self._level)
        finally:  # a second Ctrl+C must not leave the terminal without a cursor
            self._bar.stop()

    def start(self, total: int, description: str, *, unit: str = "cases", completed: int = 0) -> None:
        """Show a new bar below those of the enclosing stages."""
        started = _Stage(total, description, unit, completed)
        started.task = self._bar.add_task(
            description, total=total, completed=completed, unit=unit, detail="", left=""
        )
        self._stages.append(started)

    def advance(self, detail: str = "") -> None:
        """Move the bar."""
        current = self._stages[-1]
        current.advance(detail)
        if current.task is not None and self.is_live:
            shown = "" if self._panel is not None else detail
            left = current.time_left()
            self._bar.update(current.task, completed=current.completed, detail=shown, left=left)

    def resize(self, total: int) -> None:
        """Give the bar another length."""
        current = self._stages[-1]
        current.total = total
        if current.task is not None:
            self._bar.update(current.task, total=total)

    def finish(self) -> None:
        """Remove the bar."""
        ended = self._ended = self._stages.pop()
        if ended.task is not None:
            self._bar.remove_task(ended.task)

    @contextmanager
    def show(self, panel: RenderableType) -> Iterator[None]:
        """Show something above the bars while the block runs; only on a terminal.

        Args:
            panel: is drawn by rich several times a second, in another thread.
        """
        before, self._panel = self._panel, panel
        try:
            yield
        finally:
            self._panel = before

    def describe_ended(self) -> str | None:
        """The items done in the stage that ended last, such as ``3 of 87 cases``; None before any has ended."""
        ended = self._ended
        return None if ended is None else ended.counts()

    def print(self, text: str) -> None:
        """Print one line above the bar."""
        self._console.print(text, soft_wrap=True, markup=False)
        self._printed = time.monotonic()

    def _print_status(self) -> None:
        """Print the state of the current stage whenever nothing was printed for a while."""
        while not self._closed.wait(max(self._printed + self.every - time.monotonic(), 0.01)):
            stages = list(self._stages)
            if stages and time.monotonic() - self._printed >= self.every:
                self.print(stages[-1].describe())


def _create_bar(console: Console, panel: Callable[[], RenderableType | None], *, live: bool) -> Bar:
    """Return the bars of the stages, below what ``panel`` returns."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    class Bars(Bar):
        def get_renderables(self) -> Iterator[RenderableType]:
            above = panel()
            if above is not None:
                yield above
            yield from super().get_renderables()

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TextColumn("{task.fields[detail]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
    )
    return Bars(*columns, console=console, disable=not live, refresh_per_second=4)


class _ConsoleHandler(logging.Handler):
    """Prints log messages among the lines of a progress; in a forked process without its bars and locks."""

    def __init__(self, progress: ConsoleProgress) -> None:
        super().__init__(logging.INFO)
        self.progress, self._process = progress, os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        prefix = "error: " if record.levelno >= logging.ERROR else prefix
        text = prefix + record.getMessage()
        if os.getpid() == self._process:
            self.progress.print(text)
        else:
            print(text, file=sys.__stderr__, flush=True)


def _restore_streams() -> None:
    """Let a forked process write to the terminal itself: the thread that draws the bars is not copied."""
    rich = sys.modules.get("rich.file_proxy")
    for name in ("stdout", "stderr"):
        if rich is not None and isinstance(getattr(sys, name), rich.FileProxy):
            setattr(sys, name, getattr(sys, f"__{name}__"))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_streams)


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Return a number with its noun; ``nouns`` is an irregular plural.

    Example:
        >>> plural(1, "epoch"), plural(4800, "update")
        ('1 epoch', '4,800 updates')
    """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def duration(seconds: float) -> str:
    """Format a time as seconds, minutes or hours, whichever is readable.

    Example:
        >>> duration(600)
        '10 min'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
