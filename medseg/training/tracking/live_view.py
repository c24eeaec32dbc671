"""The state of a training on a terminal: loss, scores of each class, speed."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medseg.progress import ConsoleProgress, Progress
from medseg.training.tracking.callbacks import Callback, EpochInfo, LogEntry, TrainStart, UpdateInfo

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_POINTS = 24
"""Largest number of points of a curve."""
_ROWS = 8
"""Largest number of classes in the table; of more, those with the lowest scores."""
_WINDOW = 30.0
"""Seconds of updates from which the speed is computed."""
_REFRESH = 0.2
"""Seconds between two changes of what is shown."""
_BLOCKS = "▁▂▃▄▅▆▇█"


@contextmanager
def live_view(progress: Progress) -> Iterator[tuple[Callback, ...]]:
    """Show the state of a training while the block runs, if the progress is shown on a terminal.

    Yields:
        The callback that follows the training; nothing without a terminal.
    """
    if not isinstance(progress, ConsoleProgress) or not progress.is_live:
        yield ()
        return
    view = LiveView()
    with progress.show(view):
        yield (view,)


@dataclass
class Curve:
    """A curve of few points over a whole training: two neighbors become their mean when there are too many.

    Example:
        >>> curve = Curve(most=4)
        >>> for value in (1, 3, 5, 7, 9, 11):
        ...     curve.add(value)
        >>> curve.points
        [2.0, 6.0, 10.0]
    """

    most: int = _POINTS
    points: list[float] = field(default_factory=list[float])
    _each: int = 1
    _sum: float = 0.0
    _count: int = 0

    def add(self, value: float) -> None:
        """Add a value; one that is not finite is ignored."""
        if not math.isfinite(value):
            return
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self._each:
            return
        self.points.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self.points) > self.most:
            left = self.points[-1] * self._each
            pairs = zip(self.points[:-1:2], self.points[1::2], strict=False)
            self.points = [(a + b) / 2 for a, b in pairs]
            self._sum, self._count, self._each = left, self._each, 2 * self._each

    def text(self) -> str:
        """Draw the curve with a block for each point, between the lowest and the highest.

        Example:
            >>> Curve(points=[0.0, 0.5, 1.0]).text()
            '▁▅█'
        """
        low, high = min(self.points, default=0.0), max(self.points, default=0.0)
        scale = (len(_BLOCKS) - 1) / max(high - low, 1e-9)
        return "".join(_BLOCKS[round((one - low) * scale)] for one in self.points)


class Speed:
    """Patches per second and the share of the time in which the device waited for patches.

    Args:
        window: seconds of the latest updates that count.

    Example:
        >>> speed = Speed()
        >>> speed.add(seconds=2.0, waited=0.5, patches=8)
        >>> speed.patches_per_second, speed.idle_share
        (4.0, 0.25)
    """

    def __init__(self, window: float = _WINDOW) -> None:
        self.window = window
        self._updates: deque[tuple[float, float, int]] = deque()
        self._seconds, self._waited, self._patches = 0.0, 0.0, 0

    def add(self, *, seconds: float, waited: float, patches: int) -> None:
        """Add an update."""
        self._updates.append((seconds, waited, patches))
        self._change(seconds, waited, patches)
        while len(self._updates) > 1 and self._seconds > self.window:
            first = self._updates.popleft()
            self._change(-first[0], -first[1], -first[2])

    def _change(self, seconds: float, waited: float, patches: int) -> None:
        self._seconds += seconds
        self._waited += waited
        self._patches += patches

    @property
    def patches_per_second(self) -> float:
        """Patches per second of the updates in the window."""
        return self._patches / max(self._seconds, 1e-9)

    @property
    def idle_share(self) -> float:
        """Share of the time of the updates in which the device waited for patches."""
        return min(max(self._waited / max(self._seconds, 1e-9), 0.0), 1.0)


@dataclass
class _Row:
    """The scores of a class: of the latest and of the best validation, and their course."""

    latest: float = math.nan
    best: float = math.nan
    course: Curve = field(default_factory=Curve)

    def add(self, score: float | None, *, is_best: bool) -> None:
        self.latest = math.nan if score is None else score
        if is_best:
            self.best = self.latest
        self.course.add(self.latest)


@dataclass(frozen=True)
class _Shown:
    """What is drawn; replaced as a whole, because another thread draws it."""

    title: str = "training"
    lines: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    footer: str = ""


class LiveView(Callback):
    """Follows a training and is drawn by rich.

    Example:
        >>> from rich.console import Console
        >>> Console().print(LiveView())  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._name, self._epoch, self._monitor = "", 0, "dice"
        self._loss, self._lr = math.nan, math.nan
        self._curve, self._speed = Curve(), Speed()
        self._rows: dict[str, _Row] = {}
        self._best: tuple[float, int] | None = None
        self._validated = 0
        self._shown, self._changed = _Shown(), 0.0

    def on_train_start(self, info: TrainStart) -> None:
        """Begin with the history of a resumed run."""
        self._name, self._monitor = info.run.resolve().name, info.config.train.monitor
        self._rows = {name: _Row() for name in ("mean", *info.labels)}
        for entry in info.history:
            self._curve.add(entry["loss"])
            self._add_epoch(entry)
        self._refresh()

    def on_update(self, info: UpdateInfo) -> None:
        """Follow the loss and the speed."""
        if math.isfinite(info.loss):
            self._loss = info.loss if math.isnan(self._loss) else 0.95 * self._loss + 0.05 * info.loss
            self._curve.add(info.loss)
        self._lr = info.lr
        self._speed.add(seconds=info.seconds, waited=info.waited, patches=info.patches)
        if time.monotonic() - self._changed >= _REFRESH:
            self._refresh()

    def on_epoch_end(self, info: EpochInfo) -> None:
        """Follow the scores."""
        self._add_epoch(info.log)
        self._refresh()

    def _add_epoch(self, entry: LogEntry) -> None:
        self._epoch = int(entry["epoch"])
        if f"val_{self._monitor}" not in entry:
            return
        score, self._validated = entry[f"val_{self._monitor}"], int(entry["step"])
        is_best = self._best is None or (score is not None and not self._best[0] >= score)
        if is_best:
            self._best = (math.nan if score is None else score), self._validated
        for name, row in self._rows.items():
            key = "val_dice" if name == "mean" else f"val_dice:{name}"
            row.add(entry.get(key), is_best=is_best)

    def _refresh(self) -> None:
        """Replace what is drawn."""
        speed = self._speed
        lines = (
            f"loss {self._loss:.4f}  {self._curve.text()}",
            f"lr {self._lr:.2g}   {speed.patches_per_second:.1f} patches/s   "
            f"device idle {speed.idle_share:.0%}",
        )
        known = not math.isnan(self._lr)
        title = f"{self._name}, epoch {self._epoch + 1}" if self._name else "training"
        self._shown = _Shown(title, lines if known else (), self._table_rows(), self._footer())
        self._changed = time.monotonic()

    def _table_rows(self) -> list[tuple[str, ...]]:
        """The mean and the classes; of many, those with the lowest latest scores."""
        if self._best is None:
            return []
        return [
            (name, _score(row.latest), _score(row.best), row.course.text())
            for name, row in _lowest(self._rows).items()
        ]

    def _footer(self) -> str:
        if self._best is None:
            return "not validated yet"
        left_out = len(self._rows) - 1 - _ROWS
        more = f"{left_out} classes with higher scores are not shown\n" if left_out > 0 else ""
        monitor = "" if self._monitor == "dice" else f" by {self._monitor}"
        return f"{more}validated after update {self._validated:,}; best{monitor} after update {self._best[1]:,}"

    def __rich__(self) -> RenderableType:
        """Draw the state."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        shown = self._shown
        parts: list[RenderableType] = [Text(one, overflow="ellipsis", no_wrap=True) for one in shown.lines]
        if shown.rows:
            parts.append(_table(shown.rows))
        parts.append(Text(shown.footer, style="dim", overflow="ellipsis", no_wrap=True))
        return Panel(Group(*parts), title=Text(shown.title), title_align="left", border_style="dim")


def _lowest(rows: Mapping[str, _Row]) -> dict[str, _Row]:
    """Return the mean and, in their order, the ``_ROWS`` classes with the lowest latest scores."""
    classes = [name for name in rows if name != "mean"]
    order = sorted(classes, key=lambda name: math.inf if math.isnan(rows[name].latest) else rows[name].latest)
    kept = set(order[:_ROWS]) | {"mean"}
    return {name: row for name, row in rows.items() if name in kept}


def _table(rows: Sequence[tuple[str, ...]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Dice", no_wrap=True, overflow="ellipsis", max_width=32)
    for title in ("latest", "best"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("course", no_wrap=True, overflow="crop")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _score(score: float) -> str:
    return "–" if math.isnan(score) else f"{score:.4f}"
