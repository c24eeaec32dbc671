"""What a training tells whoever watches: nothing, plain lines, or a live bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


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
    """A live bar on a terminal, one plain line an epoch elsewhere; both on standard error."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr, highlight=False)
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

    def __enter__(self) -> ConsoleProgress:
        """Show the bar."""
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self.bar.stop()

    def found(self, layout: str) -> None:
        """Print the line."""
        self.console.print(layout, soft_wrap=True)

    def prepared(self, case: str) -> None:
        """Count the cases prepared."""
        self.cases += 1
        self.bar.update(self.job, description=f"preparing: {self.cases} cases")

    def update(self, step: int, steps: int, loss: float) -> None:
        """Move the bar."""
        self.bar.update(self.job, completed=step, total=steps, description=f"training, loss {loss:.3f}")

    def epoch(self, entry: dict[str, Any]) -> None:
        """Print the epoch's line."""
        parts = [f"epoch {entry['epoch']}", f"step {entry['step']}", f"loss {entry['loss']:.4f}"]
        parts += [
            f"{key.removeprefix('val_')} {value:.4f}" if value is not None else f"{key.removeprefix('val_')} –"
            for key, value in entry.items()
            if key.startswith("val_dice")
        ]
        parts.append(f"{entry['seconds']:.1f} s")
        self.console.print("  ".join(parts), soft_wrap=True)
