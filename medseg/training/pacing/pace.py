"""What the training loop asks about the length of the training and the position in the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from medseg.optim import learning_rate
from medseg.training.options import TrainConfig


class Pace(Protocol):
    """Decides when a training ends, when it validates, and its learning rate."""

    @property
    def total(self) -> int:
        """Number of updates of the whole training, as far as it is known."""
        ...

    @property
    def last_batch(self) -> int | None:
        """Number of batches of the whole training; None if it is not known in advance."""
        ...

    def begin(self, step: int) -> None:
        """Note that updates begin or continue at ``step``."""
        ...

    def is_finished(self, step: int) -> bool:
        """Return whether the training ends after ``step`` updates."""
        ...

    def learning_rate(self, step: int, scores: list[float]) -> float:
        """Return the learning rate of an update, given the validation scores so far."""
        ...

    def position(self, step: int) -> float:
        """Return the position in the training after ``step`` updates, from 0 to 1."""
        ...

    def after_update(self, step: int) -> None:
        """Note that ``step`` updates are done."""
        ...

    def after_growth(self, step: int, factor: float) -> None:
        """Note that patches have ``factor`` times as many voxels after ``step`` updates."""
        ...

    def wants_validation(self, epoch: int, *, last: bool) -> bool:
        """Return whether an epoch ends with a validation."""
        ...

    def after_validation(self, step: int) -> None:
        """Note that the validation after ``step`` updates has ended."""
        ...

    def after_epoch(self) -> None:
        """Note that an epoch is closed and saved."""
        ...

    def note_time(self) -> None:
        """Record the time used so far; the state is saved next."""
        ...

    def is_overdue(self) -> bool:
        """Return whether the time is over, so that a validation must be abandoned."""
        ...


@dataclass
class EpochPace:
    """A fixed number of epochs.

    Attributes:
        options: of the training loop.
    """

    options: TrainConfig

    @property
    def total(self) -> int:
        """Number of updates of the whole training."""
        return self.options.epochs * self.options.iterations

    @property
    def last_batch(self) -> int | None:
        """Number of batches of the whole training."""
        return self.total * self.options.accumulate

    def begin(self, step: int) -> None:
        """Do nothing."""

    def is_finished(self, step: int) -> bool:
        """Return whether all epochs are done."""
        return step >= self.total

    def learning_rate(self, step: int, scores: list[float]) -> float:
        """Return the learning rate of an update."""
        return learning_rate(self.options.optimizer.lr, self.options.schedule, step, self.total, scores)

    def position(self, step: int) -> float:
        """Return the position in the training after ``step`` updates."""
        return min(step / self.total, 1.0)

    def after_update(self, step: int) -> None:
        """Do nothing."""

    def after_growth(self, step: int, factor: float) -> None:
        """Do nothing."""

    def wants_validation(self, epoch: int, *, last: bool) -> bool:
        """Return whether an epoch ends with a validation: every few epochs, and the last one."""
        return last or epoch % self.options.validate_every == 0

    def after_validation(self, step: int) -> None:
        """Do nothing."""

    def after_epoch(self) -> None:
        """Do nothing."""

    def note_time(self) -> None:
        """Do nothing."""

    def is_overdue(self) -> bool:
        """Return False: there is no time limit."""
        return False
