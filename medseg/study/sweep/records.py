"""What a sweep knows about its trials, without Optuna's objects: for tables, best settings and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["complete", "pruned", "failed", "running", "waiting"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: of the trial, from 0.
        state: ``complete``; ``pruned``: ended early, because others were better; ``failed``; ``running``: a
            process works on it, or its process was killed and the next one continues it; ``waiting``.
        changes: dotted key of a varied setting → its value as text or number.
        scores: value of each objective; empty unless it is complete.
        curve: validation score of the training at each step that was compared.
        seconds: time of the updates of the training.
        error: why it failed.
        attempts: number of processes that worked on it.
    """

    number: int
    state: State
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scores: tuple[float, ...] = ()
    curve: Mapping[int, float] = field(default_factory=dict[int, float])
    seconds: float = 0.0
    error: str | None = None
    attempts: int = 1

    @property
    def scored(self) -> bool:
        """Whether its training is compared with others."""
        return self.state in ("complete", "pruned")

    @property
    def finished(self) -> bool:
        """Whether the trial is accounted for."""
        return self.state in ("complete", "pruned", "failed")


def pareto_front(trials: Sequence[TrialRecord], maximized: Sequence[bool]) -> list[TrialRecord]:
    """Return the complete trials that no other one equals or surpasses in every objective, best first.

    With one objective these are the best trials. They are sorted by the first objective.

    Example:
        >>> scores = [(0.8, 3.0), (0.7, 1.0), (0.7, 4.0)]
        >>> trials = [TrialRecord(i, "complete", scores=s) for i, s in enumerate(scores)]
        >>> [trial.number for trial in pareto_front(trials, (True, False))]
        [0, 1]
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    losses = {
        trial.number: tuple(-v if up else v for v, up in zip(trial.scores, maximized, strict=True))
        for trial in complete
    }

    def dominated(own: tuple[float, ...]) -> bool:
        return any(
            other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in losses.values()
        )

    front = [trial for trial in complete if not dominated(losses[trial.number])]
    return sorted(front, key=lambda trial: (losses[trial.number], trial.number))
