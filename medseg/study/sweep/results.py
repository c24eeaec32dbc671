"""What a sweep leaves behind: the table of trials, the best settings, the report."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.config.schema import RunConfig, to_yaml
from medseg.files import write_text
from medseg.metrics import write_csv
from medseg.study.sweep.page import write_sweep_page
from medseg.study.sweep.records import TrialRecord, pareto_front
from medseg.study.sweep.search_space.options import SweepConfig
from medseg.study.sweep.search_space.space import SearchSpace, describe_changes
from medseg.study.sweep.study_folder import SweepFolder

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        output: folder of the study, with ``trials.csv``, ``best.yaml`` and ``report.html``.
        objectives: names of the objectives.
        trials: all trials.
        front: the trials that no other one surpasses in every objective, sorted by the first objective.
        config: the settings of the best trial; None if no trial is complete.
    """

    output: Path
    objectives: tuple[str, ...]
    trials: list[TrialRecord]
    front: list[TrialRecord]
    config: RunConfig | None

    @property
    def best(self) -> TrialRecord | None:
        """The best trial, with several objectives that of the first one; None if no trial is complete."""
        return self.front[0] if self.front else None

    @property
    def failed(self) -> list[TrialRecord]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.state == "failed"]

    def describe(self) -> str:
        """Return how many trials ended how, and the best one."""
        states = [trial.state for trial in self.trials]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        text = f"{len(states)} trials: {counts}"
        return text if self.best is None else f"{text}; best: {self.describe_trial(self.best)}"

    def describe_trial(self, trial: TrialRecord) -> str:
        """Return the number, scores and settings of a trial on one line."""
        scores = ", ".join(f"{n} {v:.4f}" for n, v in zip(self.objectives, trial.scores, strict=False))
        return f"trial {trial.number}, {scores or trial.state} ({describe_changes(trial.changes)})"


def summarize(
    folder: SweepFolder, trials: list[TrialRecord], space: SearchSpace, sweep: SweepConfig
) -> SweepResult:
    """Return the result so far."""
    front = pareto_front(trials, sweep.maximized)
    config = space.config(space.values(front[0].changes)) if front else None
    return SweepResult(folder.root, sweep.objectives, trials, front, config)


def write_results(folder: SweepFolder, result: SweepResult, space: SearchSpace, sweep: SweepConfig) -> None:
    """Write ``trials.csv``, ``best.yaml``, with several objectives ``pareto/``, and ``report.html``."""
    trials = result.trials
    if trials:
        write_csv(folder.table, [_row(trial, space, sweep) for trial in trials])
    if result.best is not None:
        _write_settings(folder.best, result, result.best, space)
    if len(sweep.objectives) > 1:
        _write_front(folder, result, space)
    try:
        write_sweep_page(folder.report, folder.root.resolve().name, trials, space, sweep)
    except Exception:  # a page is not worth a sweep
        _LOGGER.warning("%s was not written", folder.report, exc_info=True)


def _write_front(folder: SweepFolder, result: SweepResult, space: SearchSpace) -> None:
    """Write the settings of the Pareto front, and remove those that no longer belong to it."""
    names = {f"trial_{trial.number:04}.yaml": trial for trial in result.front}
    for path in folder.pareto.glob("trial_*.yaml"):
        if path.name not in names:
            path.unlink(missing_ok=True)
    for name, trial in names.items():
        _write_settings(folder.pareto / name, result, trial, space)


def _write_settings(path: Path, result: SweepResult, trial: TrialRecord, space: SearchSpace) -> None:
    """Write the settings of a trial, unless the file has them already."""
    comment = (
        f"# Chosen by a sweep on the validation cases: {result.describe_trial(trial)}.\n"
        "# Train it with medseg train, and measure it on the test cases once.\n"
    )
    if not path.is_file() or not path.read_text(encoding="utf-8").startswith(comment):
        write_text(path, comment + to_yaml(space.config(space.values(trial.changes))))


def _row(trial: TrialRecord, space: SearchSpace, sweep: SweepConfig) -> dict[str, Any]:
    scores = trial.scores or (math.nan,) * len(sweep.objectives)
    return {
        "trial": trial.number,
        "state": trial.state,
        **dict(zip(sweep.objectives, scores, strict=True)),
        **{one.key: trial.changes.get(one.key, "") for one in space.settings},
        "minutes": round(trial.seconds / 60, 3),
        "last_validation": list(trial.curve.values())[-1] if trial.curve else math.nan,
        "processes": trial.attempts,
        "error": trial.error or "",
    }
