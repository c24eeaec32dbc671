"""A training of a fixed number of epochs."""

from __future__ import annotations

from dataclasses import dataclass

from medseg.optim import learning_rate
from medseg.training.options import TrainConfig


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
