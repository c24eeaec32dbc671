"""The decisions of a training under a time budget, as they are recorded in its checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Segment:
    """Updates over which the position in the schedule grows linearly.

    Attributes:
        start: first update, from 0.
        stop: update to stop before.
        low: position (0 to 1) in the schedule at ``start``.
        high: position at ``stop``, or at ``planned_stop``.
        planned_stop: where the segment was to stop before it was cut; None if it was not.
    """

    start: int
    stop: int
    low: float
    high: float
    planned_stop: int | None = None

    def position(self, step: float) -> float:
        """Return the position at an update.

        Example:
            >>> Segment(10, 20, 0.5, 0.75).position(12)
            0.55
        """
        length = (self.planned_stop or self.stop) - self.start
        return self.low + (self.high - self.low) * (step - self.start) / length

    @property
    def end(self) -> float:
        """The position at ``stop``."""
        return self.high if self.planned_stop is None else self.position(self.stop)

    def cut(self, step: int) -> Segment:
        """Return the segment that ends at ``step``; the positions before it stay exactly the same."""
        return replace(self, stop=step, planned_stop=self.planned_stop or self.stop)


@dataclass
class PaceRecord:
    """What a training under a time budget has decided and measured.

    Attributes:
        segments: the decisions; together they cover all updates so far.
        finished: whether no update follows the last segment.
        final_validation: whether there is time for the validation of the last weights.
        used: seconds of the budget that were used.
        updating: seconds of all updates.
        validating: seconds of all validations.
        update_seconds: seconds of an update, lately; 0 before the first measurement.
        validation_updates: duration of a validation, as a number of updates that take as long.
        closing_seconds: duration of the end of an epoch without its validation.
        expected_updates: number of updates of the whole training, by the newest decision.
    """

    segments: list[Segment] = field(default_factory=list)
    finished: bool = False
    final_validation: bool = True
    used: float = 0.0
    updating: float = 0.0
    validating: float = 0.0
    update_seconds: float = 0.0
    validation_updates: float = 0.0
    closing_seconds: float = 0.2
    expected_updates: int = 0

    def to_checkpoint(self) -> dict[str, Any]:
        """Return the record as plain types."""
        return asdict(self)

    @classmethod
    def restore(cls, saved: dict[str, Any]) -> PaceRecord:
        """Return the record of a checkpoint."""
        segments = [Segment(**one) for one in saved.get("segments", [])]
        return cls(**{**saved, "segments": segments})
