"""What the runs of a study do: which are complete, run, wait or failed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medseg.errors import DataError
from medseg.evaluation.output import CASES_FILE, read_case_files
from medseg.progress import plural
from medseg.study.cell_run import FAILURE_FILE, read_json, shortened
from medseg.study.engine import INDEX_FILE
from medseg.study.executors.protocol import LOG_FILE
from medseg.study.executors.state import STATE_FILE, CellState, CellStatus, read_job, read_state

if TYPE_CHECKING:
    from medseg.study.cross_validation.folder import StudyFolder

FOLDS_RECORD = "study.json"
"""File of the options of a cross-validation."""
SWEEP_JOURNAL = "journal.log"
"""File that only the folder of a sweep has."""
_MOST_CASES = 3


@dataclass(frozen=True)
class RunStatus:
    """The state of one run of a study.

    Attributes:
        name: dataset, cell, seed and fold.
        status: ``complete``, ``running``, ``waiting``, ``failed`` or ``stopped``.
        seconds: time since its start while it runs, else the duration of its last process.
        dice: mean Dice of the compared cases, once complete.
        detail: the error and its log, the last epoch, or the machine that runs it; of a complete run, the files
            that are missing, and the validation of a fold whose cases are not yet compared.
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
    from medseg.study.cross_validation.folder import StudyFolder

    study = StudyFolder(root)
    scored = {str(row["fold"]): row for row in read_json(study.summary).get("folds", [])}
    return [_fold(study, number, scored.get(str(number))) for number in range(count)]


def _fold(study: StudyFolder, number: int, scores: dict[str, Any] | None) -> RunStatus:
    """Return the state of a fold.

    Args:
        study: folder of the cross-validation.
        number: of the fold.
        scores: of its held-out cases; None before they are compared.
    """
    fold = study.fold(number)
    state = read_state(fold.root)
    if state.status != "complete":
        return RunStatus(fold.name, state.status, state.elapsed, detail=_detail(fold.root, state))
    if not fold.is_trained:  # trained again, or its last checkpoint becomes the model
        return RunStatus(fold.name, "waiting", detail=f"missing: {fold.run.model.name}")
    if scores is None:
        return RunStatus(fold.name, "complete", state.elapsed, detail=_last_validation(fold.run.log))
    missing = [] if study.case_table.is_file() else [study.case_table.name]
    missing += _missing_predictions(study, number)
    detail = f"missing: {', '.join(missing)}; repeat the study" if missing else ""
    return RunStatus(fold.name, "complete", state.elapsed, scores.get("dice"), detail)


def _missing_predictions(study: StudyFolder, fold: int) -> list[str]:
    """Name the label maps of the held-out cases of a fold that do not exist, in a few words."""
    from medseg.inference.batch.outputs.provenance import read_records

    cases = [str(one["id"]) for one in _read_cases(study.cases) if one.get("fold") == fold]
    predicted = {one.case for one in read_records(study.out_of_fold.predictions) if one.finished}
    missing = [case for case in cases if case not in predicted]
    return [_named_maps(missing)] if missing else []


def _read_cases(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a record of cases; none if there is no such record."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return cast(list[dict[str, Any]], content) if isinstance(content, list) else []


def _last_validation(log: Path) -> str:
    """Return the Dice of the last validation of a training, in words; empty without one."""
    from medseg.training.run_folder.log import read_log

    scores = [entry["val_dice"] for entry in read_log(log) if entry.get("val_dice") is not None]
    return f"validation Dice {scores[-1]:.4f}; its cases are not compared yet" if scores else ""


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
        metrics = (root / entry["record"]).parent / "metrics"
        if not (metrics / CASES_FILE).is_file():  # evaluated again
            return RunStatus(entry["name"], "waiting", detail=f"missing: {CASES_FILE}")
        seconds = state.seconds or float(record.get("seconds") or 0)
        return RunStatus(entry["name"], "complete", seconds, record.get("dice"), _missing_maps(metrics))
    if state.status == "complete":  # of other settings, or its results were removed
        return RunStatus(entry["name"], "waiting")
    if state.status == "waiting" and (preparation := root / entry.get("preparation", "")) != root:
        prepared = read_state(preparation)  # of its cases, which other runs may share
        if prepared.status == "failed":
            return RunStatus(entry["name"], "failed", detail=_detail(preparation, prepared))
    return RunStatus(entry["name"], state.status, state.elapsed, detail=_detail(folder, state))


def _missing_maps(metrics: Path) -> str:
    """Name the label maps that a run was evaluated on and that do not exist, in a few words."""
    files, _ = read_case_files(metrics)
    missing = [
        case for case, one in files.items() if one.prediction is not None and not one.prediction.exists()
    ]
    return f"missing: {_named_maps(missing)}; repeat the study" if missing else ""


def _named_maps(cases: Sequence[str]) -> str:
    shown = ", ".join(cases[:_MOST_CASES]) + (" …" if len(cases) > _MOST_CASES else "")
    return f"{plural(len(cases), 'label map')} ({shown})"


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
