"""A training that repeats the decisions of the clock of another one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg.errors import TrainingError
from medseg.files import write_json
from medseg.optim import learning_rate_at
from medseg.training.options import TrainConfig
from medseg.training.pacing.fixed_epochs import EpochPace
from medseg.training.pacing.segments import PaceRecord, Segment


@dataclass(frozen=True)
class ClockDecisions:
    """What the clock decided in a training with a time budget.

    Attributes:
        segments: the updates and their positions in the schedule.
        validated_epochs: epochs that ended with a validation.
        validated_cases: ids of the cases that were validated.
        first_stage: of the networks of the first stage of a cascade.
    """

    segments: tuple[Segment, ...]
    validated_epochs: tuple[int, ...]
    validated_cases: tuple[str, ...]
    first_stage: tuple[ClockDecisions, ...] = ()

    @classmethod
    def of(
        cls,
        record: PaceRecord,
        log: Sequence[dict[str, Any]],
        validated: Sequence[str],
        first_stage: Sequence[ClockDecisions] = (),
    ) -> ClockDecisions | None:
        """Return the decisions of a training; None if it had no time budget.

        Args:
            record: of its last checkpoint.
            log: its ``log.jsonl``.
            validated: ids of the cases that it validated.
            first_stage: decisions of the networks of its first stage.
        """
        if not record.segments:
            return None
        epochs = tuple(int(entry["epoch"]) for entry in log if "val_cases" in entry)
        return cls(tuple(record.segments), epochs, tuple(validated), tuple(first_stage))

    def record(self) -> PaceRecord:
        """Return the decisions as a checkpoint of a training has them."""
        return PaceRecord(list(self.segments), finished=True, expected_updates=self.segments[-1].stop)

    def write(self, path: Path) -> None:
        """Write the decisions as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> ClockDecisions | None:
        """Read the decisions; None if there is no such file.

        Raises:
            TrainingError: if the file cannot be read.
        """
        if not path.is_file():
            return None
        try:
            return cls._parse(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path}: cannot be read ({error})", path=path) from error

    @classmethod
    def _parse(cls, saved: dict[str, Any]) -> ClockDecisions:
        return cls(
            tuple(Segment(**one) for one in saved["segments"]),
            tuple(saved["validated_epochs"]),
            tuple(saved["validated_cases"]),
            tuple(map(cls._parse, saved["first_stage"])),
        )


class ReplayedPace(EpochPace):
    """Repeats the updates, learning rates and validations of a training with a time budget, at any speed.

    Args:
        options: of the training loop.
        decisions: to repeat.
    """

    def __init__(self, options: TrainConfig, decisions: ClockDecisions) -> None:
        super().__init__(options)
        self.decisions = decisions

    @property
    def total(self) -> int:
        """Number of updates of the whole training."""
        return self.decisions.segments[-1].stop

    def learning_rate(self, step: int, scores: list[float]) -> float:
        """Return the learning rate of an update."""
        segments = self.decisions.segments
        current = next((one for one in segments if one.start <= step < one.stop), segments[-1])
        return learning_rate_at(
            self.options.optimizer.lr, self.options.schedule, current.position(step + 0.5), scores
        )

    def position(self, step: int) -> float:
        """Return the position in the training after ``step`` updates."""
        current = next((one for one in reversed(self.decisions.segments) if one.start <= step), None)
        return 0.0 if current is None else current.position(min(step, current.stop))

    def wants_validation(self, epoch: int, *, last: bool) -> bool:
        """Return whether the repeated epoch ended with a validation."""
        return epoch in self.decisions.validated_epochs
