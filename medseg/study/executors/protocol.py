"""What an executor runs, what it returns, and its protocol."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

LOG_FILE = "output.log"
_TAIL_LINES = 15
_TAIL_BYTES = 1 << 15


@dataclass(frozen=True)
class CellCommand:
    """A command line that runs in a process of its own.

    A command that was interrupted is run again by the same command line, so it must continue by itself.

    Attributes:
        name: shown in messages.
        command: program and arguments, or a function that returns them, called when the cell starts.
        folder: receives the log file and the state of the cell; the command may write to it, too.
        environment: variables that are added to those of the executor.

    Example:
        >>> arguments = ["train", "config.yaml", "--run", "cv/fold_0/run", "--resume", "auto"]
        >>> cell = CellCommand.medseg("fold 0", arguments, Path("cv/fold_0"))
        >>> cell.command[1:4], cell.log.name
        (('-m', 'medseg', 'train'), 'output.log')
    """

    name: str
    command: tuple[str, ...] | Callable[[], Sequence[str]]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def medseg(cls, name: str, arguments: Sequence[str], folder: Path) -> CellCommand:
        """Return the cell of a ``medseg`` command, run by this interpreter."""
        return cls(name, (sys.executable, "-m", "medseg", *arguments), folder)

    def arguments(self) -> list[str]:
        """Return program and arguments of a cell that starts now."""
        return list(self.command() if callable(self.command) else self.command)

    @property
    def log(self) -> Path:
        """The file with everything that the command printed, in all its runs."""
        return self.folder / LOG_FILE


@dataclass(frozen=True)
class CellResult:
    """The end of a command.

    Attributes:
        cell: the command.
        exit_code: its exit code; negative after a signal; None if it was not started.
        seconds: its duration.
        stopped: whether the executor ended it, or did not start it, because it was asked to stop.
    """

    cell: CellCommand
    exit_code: int | None
    seconds: float = 0.0
    stopped: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0

    @property
    def ending(self) -> str:
        """How the process ended, in a few words."""
        if self.stopped or self.succeeded or self.exit_code is None:
            return "complete" if self.succeeded else "stopped"
        return f"exit code {self.exit_code}" if self.exit_code > 0 else f"killed by signal {-self.exit_code}"

    def describe(self) -> str:
        """Return name and ending, with the log of a failure."""
        log = "" if self.succeeded or self.stopped else f" (log: {self.cell.log})"
        return f"{self.cell.name}: {self.ending}{log}"

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of the log of this run."""
        return read_tail(self.cell.log, lines)


def read_tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log, at most those of the last run; empty without a log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    own = text.rpartition(f"\n{HEADER}")[2] if f"\n{HEADER}" in text else text
    return "\n".join(own.rstrip().splitlines()[-lines:])


HEADER = "=== "
"""Start of the line that separates the runs in a log."""


class Executor(Protocol):
    """Runs commands, each in a process of its own."""

    def run(
        self, cells: Sequence[CellCommand], report: Callable[[CellResult], None] | None = None
    ) -> list[CellResult]:
        """Run all commands to their end; one that fails does not end the others.

        Args:
            cells: the commands, started in this order.
            report: called in the calling thread with every result, as soon as there is one.

        Returns:
            One result per command, in the order of ``cells``.

        Raises:
            StudyStopped: on SIGTERM or SIGINT, after all processes were ended.
        """
        ...
