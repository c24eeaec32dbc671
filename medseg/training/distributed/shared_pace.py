"""A time budget, decided by rank 0."""

from __future__ import annotations

from collections.abc import Callable

from medseg.training.distributed.ranks import Ranks
from medseg.training.pacing.end_within_budget import BudgetPace
from medseg.training.run_folder.state import TrainState


class SharedPace:
    """A pace that measures time in rank 0 only; the other processes follow its decisions.

    Args:
        pace: the pace; that of rank 0 decides.
        ranks: the processes.
        state: of the training; contains the record of the pace and the validated cases.
        select_cases: called with the ids of the validation cases when rank 0 has selected other ones.
    """

    def __init__(
        self, pace: BudgetPace, ranks: Ranks, state: TrainState, select_cases: Callable[[list[str]], None]
    ) -> None:
        self.pace, self.ranks, self.state, self.select_cases = pace, ranks, state, select_cases

    @property
    def total(self) -> int:
        """Number of updates of the whole training, as far as it is known."""
        return self.pace.total

    @property
    def last_batch(self) -> int | None:
        """None: the number of batches is not known in advance."""
        return self.pace.last_batch

    def is_finished(self, step: int) -> bool:
        """Return whether the time for updates is over."""
        return self.pace.is_finished(step)

    def learning_rate(self, step: int, scores: list[float]) -> float:
        """Return the learning rate of an update."""
        return self.pace.learning_rate(step, scores)

    def position(self, step: int) -> float:
        """Return the position in the training after ``step`` updates."""
        return self.pace.position(step)

    def begin(self, step: int) -> None:
        """Note that updates begin or continue at ``step``."""
        self._decide(lambda: self.pace.begin(step))

    def after_update(self, step: int) -> None:
        """Note that ``step`` updates are done."""
        self._decide(lambda: self.pace.after_update(step))

    def after_growth(self, step: int, factor: float) -> None:
        """Note that patches have ``factor`` times as many voxels after ``step`` updates."""
        self._decide(lambda: self.pace.after_growth(step, factor))

    def wants_validation(self, epoch: int, *, last: bool) -> bool:
        """Return whether an epoch ends with a validation."""
        return bool(self._decide(lambda: self.pace.wants_validation(epoch, last=last)))

    def after_validation(self, step: int) -> None:
        """Note that the validation after ``step`` updates has ended."""
        self._decide(lambda: self.pace.after_validation(step))

    def after_epoch(self) -> None:
        """Note that an epoch is closed and saved."""
        self._decide(self.pace.after_epoch)

    def note_time(self) -> None:
        """Record the time used so far, in rank 0."""
        if self.ranks.is_main:
            self.pace.note_time()

    def is_overdue(self) -> bool:
        """Return whether the time is over; rank 0 decides for all."""
        return self.ranks.is_main and self.pace.is_overdue()

    def _decide(self, decide: Callable[[], bool | None]) -> bool | None:
        """Let rank 0 decide, and take over its record and its selection of validation cases."""
        answer, record, validated = self.ranks.on_main(
            lambda: (decide(), self.pace.record, self.state.validated)
        )
        if not self.ranks.is_main:
            vars(self.pace.record).update(vars(record))
            if validated != self.state.validated:
                self.state.validated = validated
                self.select_cases(validated)
        return answer
