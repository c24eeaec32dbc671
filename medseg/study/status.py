"""What the runs of a study do: which are complete, run, wait or failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import DataError
from medseg.study.cell_run import FAILURE_FILE, read_json, shortened
from medseg.study.engine import INDEX_FILE
from medseg.study.executors.protocol import LOG_FILE
from medseg.study.executors.state import STATE_FILE, CellState, CellStatus, read_job, read_state

FOLDS_RECORD, FOLDS_SUMMARY = "study.json", "summary.json"
"""Files of a cross-validation: its options, and its scores."""
SWEEP_JOURNAL = "journal.log"
"""File that only the folder of a sweep has."""


@dataclass(frozen=True)
class RunStatus:
    """The state of one run of a study.

    Attributes:
        name: dataset, cell, seed and fold.
        status: ``complete``, ``running``, ``waiting``, ``failed`` or ``stopped``.
        seconds: time since its start while it runs, else the duration of its last process.
        dice: mean Dice of the compared cases, once complete; of a fold that is not yet compared, that of its
            last validation.
        detail: the error and its log, the last epoch, or the machine that runs it.
    """

    name: str
    status: CellStatus
    seconds: float = 0.0
    dice: float | None = None
    detail: str = ""


def study_status(root: Path | str) -> list[RunStatus]:
    """Return the state of each run of a study, which may be running.

    Raises:
        DataError: if the folder has no study.
    """
    root = Path(root)
    if (root / SWEEP_JOURNAL).is_file():
        return _trial_statuses(root)
    runs = read_json(root / INDEX_FILE).get("runs")
    folds = read_json(root / FOLDS_RECORD).get("folds")
    if isinstance(runs, list):
        statuses = [_status(root, entry) for entry in runs]
    else:
        statuses = _folds(root, folds) if isinstance(folds, int) else _processes(root)
    if not statuses:
        raise DataError(
            f"{root}: contains no study", hint="Give the folder that medseg study wrote (--output).", path=root
        )
    return statuses


def count_statuses(statuses: list[RunStatus]) -> str:
    """Return how many runs have each status, such as ``3 complete, 1 failed``."""
    counts = Counter(one.status for one in statuses)
    return ", ".join(f"{counts[name]} {name}" for name in sorted(counts))


def _trial_statuses(root: Path) -> list[RunStatus]:
    """Return the state of each trial of a sweep."""
    from medseg.study.sweep.search_space.space import describe_changes
    from medseg.study.sweep.shared_study import SharedStudy
    from medseg.study.sweep.study_folder import SweepFolder

    shared = SharedStudy(root, *SweepFolder(root).load())
    statuses: list[RunStatus] = []
    for trial in shared.records():
        status: CellStatus = "complete" if trial.state == "pruned" else trial.state
        if status == "running" and not shared.claims(trial.number).is_held():
            status = "stopped"
        name = f"trial {trial.number}: {describe_changes(trial.changes)}"
        scores = dict(zip(shared.sweep.objectives, trial.scores, strict=False))
        detail = trial.error or ("pruned" if trial.state == "pruned" else "")
        statuses.append(RunStatus(name, status, trial.seconds, scores.get("dice"), detail))
    return statuses


def _folds(root: Path, count: int) -> list[RunStatus]:
    """Return the state of each fold of a cross-validation, also of those that have not begun."""
    from medseg.training.run_folder.log import read_log

    rows = read_json(root / FOLDS_SUMMARY).get("folds", [])
    scores = {str(row["fold"]): row.get("dice") for row in rows}
    statuses: list[RunStatus] = []
    for number in range(count):
        folder = root / "folds" / f"fold_{number}"
        state = read_state(folder)
        dice = scores.get(str(number)) if state.status == "complete" else None
        if state.status == "complete" and dice is None:
            validated = [entry.get("val_dice") for entry in read_log(folder / "run" / "log.jsonl")]
            dice = next((score for score in reversed(validated) if score is not None), None)
        detail = _detail(folder, state)
        statuses.append(RunStatus(f"fold {number}", state.status, state.elapsed, dice, detail))
    return statuses


def _processes(root: Path) -> list[RunStatus]:
    """Return the state of the processes of a folder without a list of runs."""
    folders = sorted(path.parent for path in root.rglob(STATE_FILE))
    states = [(folder, read_state(folder)) for folder in folders]
    return [
        RunStatus(str(folder.relative_to(root)), state.status, state.elapsed, detail=_detail(folder, state))
        for folder, state in states
    ]


def _status(root: Path, entry: dict[str, Any]) -> RunStatus:
    folder = root / entry["folder"]
    state, record = read_state(folder), read_json(root / entry["record"])
    if record.get("digest") == entry["digest"]:
        seconds = state.seconds or float(record.get("seconds") or 0)
        return RunStatus(entry["name"], "complete", seconds, record.get("dice"))
    if state.status == "complete":  # of other settings, or its results were removed
        return RunStatus(entry["name"], "waiting")
    if state.status == "waiting" and (preparation := root / entry.get("preparation", "")) != root:
        prepared = read_state(preparation)  # of its cases, which other runs may share
        if prepared.status == "failed":
            return RunStatus(entry["name"], "failed", detail=_detail(preparation, prepared))
    return RunStatus(entry["name"], state.status, state.elapsed, detail=_detail(folder, state))


def _detail(folder: Path, state: CellState) -> str:
    if state.status == "failed":
        error = read_json(folder / FAILURE_FILE).get("error") or f"exit code {state.exit_code}"
        return f"{shortened(str(error))} (log: {folder / LOG_FILE})"
    number = read_job(folder)
    job = f"job {number} " if number else ""
    if state.status == "complete":
        return ""
    if state.status == "waiting":
        return f"{job}in the queue" if job else ""
    from medseg.training.run_folder.log import read_log

    epochs = read_log(folder / "run" / "log.jsonl")
    parts = [f"{job}on {state.host}"] if state.status == "running" and state.host else []
    if epochs:
        last = epochs[-1]
        score = "" if last.get("val_dice") is None else f", validation Dice {last['val_dice']:.4f}"
        parts.append(f"epoch {last['epoch']}, loss {last['loss']:.4f}{score}")
    return "; ".join(parts)
