"""The trials of a sweep, shared by several processes: who runs which, and what became of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.study.sweep.claims import Claims, wait_for_lock
from medseg.study.sweep.records import State, TrialRecord
from medseg.study.sweep.search_space.options import SweepConfig
from medseg.study.sweep.search_space.space import Changes, SearchSpace
from medseg.study.sweep.storage import build_sampler, import_optuna, open_study
from medseg.training.run_folder.layout import RunFolder

if TYPE_CHECKING:
    import optuna

_LOGGER = logging.getLogger(__name__)

MOST_DEATHS = 3
"""Processes in a row that may be killed during a trial without a new checkpoint before it counts as failed."""
_ERROR, _SECONDS, _PRUNED = "error", "seconds", "pruned"
_LOCK = ".next-trial.lock"


@dataclass
class OpenTrial:
    """A trial that this process works on; it records the scores of the validations and decides about pruning.

    Attributes:
        changes: the varied settings and their values.
        continued: whether an earlier process worked on it.
        ended: whether the trial was ended because others are better.
    """

    trial: optuna.trial.Trial
    changes: Changes
    claim: AbstractContextManager[None]
    continued: bool = False
    ended: bool = field(init=False)

    def __post_init__(self) -> None:
        self.ended = _PRUNED in self.trial.user_attrs

    @property
    def number(self) -> int:
        """Number of the trial, from 0."""
        return self.trial.number

    def is_worse(self, step: int, score: float, *, final: bool = False) -> bool:
        """Record a validation score; return whether the trial ends because others were better at this step.

        A step that is known already, which an interrupted training repeats, changes nothing; a trial that was
        ended before it was interrupted ends again. The final score is recorded only.
        """
        frozen = self.trial.storage.get_trial(self.trial._trial_id)  # pyright: ignore[reportPrivateUsage]
        if step in frozen.intermediate_values or self.ended:
            return self.ended
        self.trial.report(score, step)
        if not final and self.trial.should_prune():
            self.trial.set_user_attr(_PRUNED, step)
            self.ended = True
        return self.ended


class SharedStudy:
    """The trials of a sweep in the journal of its folder.

    Args:
        root: folder of the sweep.
        sweep: what is varied and optimized.
        space: the search space of ``sweep``.
    """

    def __init__(self, root: Path, sweep: SweepConfig, space: SearchSpace) -> None:
        self.root, self.sweep, self.space = root, sweep, space
        with self._locked():
            self.study = open_study(root, sweep, _longest(space))
            records = space.baseline() if sweep.baseline and not self.study.trials else None
            if records is not None:
                self.study.enqueue_trial(records)

    def folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.root / "trials" / f"{number:04}"

    def claims(self, number: int) -> Claims:
        """Return the claims of a trial."""
        return Claims(self.folder(number) / "claims")

    def next_trial(self, total: int) -> OpenTrial | None:
        """Claim a trial: one whose process was killed, else a new one; None if there is nothing to start.

        A trial during which several processes in a row were killed before they wrote a checkpoint counts as
        failed.
        """
        import_optuna()
        with self._locked():
            for frozen in self._unclaimed():
                claims, progress = self.claims(frozen.number), self._progress(frozen.number)
                if claims.deaths(progress) >= MOST_DEATHS:
                    self.fail(frozen.number, f"{MOST_DEATHS} processes were killed before they got any further")
                elif (claim := claims.take(progress)) is not None:
                    self.study.sampler = build_sampler(self.sweep, frozen.number)
                    return self._open(self._trial(frozen), claim, continued=True)
            started = [t for t in self.study.get_trials(deepcopy=False) if t.state.name != "WAITING"]
            if len(started) >= total:
                return None
            self.study.sampler = build_sampler(self.sweep, len(started))
            trial = self.study.ask()
            claim = self.claims(trial.number).take()
            return None if claim is None else self._open(trial, claim)

    def is_worked_on(self) -> bool:
        """Return whether a trial is not finished."""
        return any(frozen.state.name == "RUNNING" for frozen in self.study.get_trials(deepcopy=False))

    def complete(self, number: int, values: Sequence[float], seconds: float) -> None:
        """Record the objectives of a trial; nan for one that was pruned.

        The first record of a trial counts: a process that was silent for long may find that another one has
        finished its trial.
        """
        optuna = import_optuna()
        if self._is_finished(number):
            return
        self._annotate(number, _SECONDS, round(seconds, 3))
        if any(math.isnan(value) for value in values):
            self.study.tell(number, state=optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(number, list(values))

    def fail(self, number: int, error: str) -> None:
        """Record that a trial failed, unless another process has finished it."""
        optuna = import_optuna()
        if self._is_finished(number):
            return
        self._annotate(number, _ERROR, error)
        self.study.tell(number, state=optuna.trial.TrialState.FAIL)

    def records(self) -> list[TrialRecord]:
        """Return all trials."""
        return [self._record(frozen) for frozen in self.study.get_trials(deepcopy=False)]

    def _record(self, frozen: optuna.trial.FrozenTrial) -> TrialRecord:
        states: Mapping[str, State] = {
            "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running",
            "WAITING": "waiting",
        }  # fmt: skip
        state = states[frozen.state.name]
        attributes = frozen.user_attrs
        return TrialRecord(
            number=frozen.number,
            state=state,
            changes={
                one.key: one.tidy(frozen.params[one.key]) if one.kind != "choice" else frozen.params[one.key]
                for one in self.space.settings
                if one.key in frozen.params
            },
            scores=tuple(frozen.values) if state == "complete" else (),
            curve=dict(sorted(frozen.intermediate_values.items())),
            seconds=attributes.get(_SECONDS, 0.0),
            error=attributes.get(_ERROR),
            attempts=self.claims(frozen.number).count(),
        )

    def _open(self, trial: optuna.trial.Trial, claim: Path, *, continued: bool = False) -> OpenTrial:
        changes = self.space.suggest(trial)
        return OpenTrial(trial, changes, self.claims(trial.number).held(claim), continued)

    def _unclaimed(self) -> list[optuna.trial.FrozenTrial]:
        running = [t for t in self.study.get_trials(deepcopy=False) if t.state.name == "RUNNING"]
        return [frozen for frozen in running if not self.claims(frozen.number).is_held()]

    def _trial(self, frozen: optuna.trial.FrozenTrial) -> optuna.trial.Trial:
        """Return the handle of a trial that another process began."""
        return import_optuna().trial.Trial(self.study, frozen._trial_id)  # pyright: ignore[reportPrivateUsage]

    def _progress(self, number: int) -> str:
        """Return the time of the last checkpoint of a trial; empty without."""
        checkpoint = RunFolder(self.folder(number) / "run").last
        return str(checkpoint.stat().st_mtime_ns) if checkpoint.exists() else ""

    def _is_finished(self, number: int) -> bool:
        finished = bool(self.study.get_trials(deepcopy=False)[number].state.is_finished())
        if finished:
            _LOGGER.warning("trial %d: another process has finished it; its result is kept", number)
        return finished

    def _annotate(self, number: int, key: str, value: Any) -> None:
        frozen = self.study.get_trials(deepcopy=False)[number]
        self._trial(frozen).set_user_attr(key, value)

    def _locked(self) -> AbstractContextManager[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        return wait_for_lock(self.root / _LOCK)


def _longest(space: SearchSpace) -> int | None:
    """Return the epochs of the longest training; None with a time budget."""
    config = space.config({})
    if config.train.budget is not None:
        return None
    ends = [int(end) for one in space.settings if one.key == "train.epochs" for end in one.ends]
    return max([config.train.epochs, *ends])
