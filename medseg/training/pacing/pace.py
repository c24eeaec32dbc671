"""When a training ends and validates, and its learning rate: what the training loop asks."""

from __future__ import annotations

from typing import Protocol


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
