"""Callbacks: your own code, and the tracking services, follow a training through one protocol."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from medseg.config.schema import RunConfig
from medseg.geometry import Array

if TYPE_CHECKING:
    from medseg.training.run_folder.result import RunResult

_LOGGER = logging.getLogger(__name__)

LogEntry = Mapping[str, Any]
"""A line of ``log.jsonl``: ``epoch``, ``step``, ``loss``, ``lr``, ``val_dice`` …; None for undefined scores."""


@dataclass(frozen=True)
class TrainStart:
    """What a callback receives before the first update.

    Attributes:
        config: the settings.
        run: the run folder.
        step: updates done; 0 for a new run.
        labels: names of the labels or regions that are scored.
        cases: number of cases in each part of the split.
        history: the lines of ``log.jsonl`` so far, for a resumed run.
        environment: versions and hardware, as in ``environment.json``.
    """

    config: RunConfig
    run: Path
    step: int
    labels: tuple[str, ...]
    cases: Mapping[str, int]
    history: Sequence[LogEntry] = ()
    environment: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class UpdateInfo:
    """What a callback receives after an update of the weights.

    Attributes:
        step: updates so far.
        loss: the latest loss that was read; on a GPU it is read every 16 updates.
        lr: learning rate of the update.
        seconds: time of the update.
        waited: the part of it in which the network waited for patches.
        patches: number of patches.
    """

    step: int
    loss: float
    lr: float
    seconds: float
    waited: float
    patches: int


@dataclass
class EpochInfo:
    """What a callback receives after an epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        step: updates so far.
        loss: mean loss of the epoch.
        scores: validation scores (``dice``, ``iou``, ``dice:NAME`` …); empty without a validation.
        is_best: whether they are the best so far.
        network: the network that is validated and saved.
        run: the run folder.
        score: the score that ``train.monitor`` selects; None without a validation.
        log: the line of ``log.jsonl``.
        pictures: pictures of validated cases, (H, W, 3) of uint8, by ``val/CASE``; drawn every few minutes.
        stop_requested: whether a callback called :meth:`stop`.
    """

    epoch: int
    step: int
    loss: float
    scores: Mapping[str, float]
    is_best: bool
    network: nn.Module
    run: Path
    score: float | None = None
    log: LogEntry = field(default_factory=dict[str, Any])
    pictures: Mapping[str, Array] = field(default_factory=dict[str, Array])
    stop_requested: bool = False

    def stop(self) -> None:
        """Request the end of the training after this epoch."""
        self.stop_requested = True


class Callback:
    """Is called during a training; override what you need. Any object with some of these methods will do.

    An error in a callback ends the training; the last checkpoint is kept. A training on several GPUs calls it
    in the first process only.

    Example:
        >>> class StopAt(Callback):
        ...     def on_epoch_end(self, info):
        ...         if info.scores.get("dice", 0) > 0.9:
        ...             info.stop()
    """

    def on_train_start(self, info: TrainStart) -> None:
        """Is called once, before the first update of a new or resumed run."""

    def on_update(self, info: UpdateInfo) -> None:
        """Is called after every update of the weights; must be quick."""

    def on_epoch_end(self, info: EpochInfo) -> None:
        """Is called after every epoch, before the state is saved."""

    def on_train_end(self, info: RunResult) -> None:
        """Is called once, after the model file is written."""

    def on_train_error(self, error: BaseException) -> None:
        """Is called if an error or a signal ends the training, after the state is saved."""


Moment = Literal["on_train_start", "on_update", "on_epoch_end", "on_train_end", "on_train_error"]
"""Name of a method of :class:`Callback`."""


def notify(callbacks: Iterable[Callback], moment: Moment, info: object) -> None:
    """Call a method of each callback that has it.

    Example:
        >>> class Printed:
        ...     def on_train_end(self, info):
        ...         print(info)
        >>> notify([Printed()], "on_update", 1)
        >>> notify([Printed()], "on_train_end", "done")
        done
    """
    for callback in callbacks:
        method = getattr(callback, moment, None)
        if method is not None:
            method(info)


@contextmanager
def report_errors(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Report an error or interruption of the block to each callback, whose own errors are logged only."""
    try:
        yield
    except BaseException as error:
        for callback in callbacks:
            try:
                notify([callback], "on_train_error", error)
            except Exception as second:
                _LOGGER.warning("%s.on_train_error failed: %s", type(callback).__name__, second)
        raise
