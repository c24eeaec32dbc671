"""The engine of studies: prepare the cases, run what is not complete, and collect the outcomes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError, DataError
from medseg.files import sha256_json, write_json
from medseg.progress import Progress, stage
from medseg.study.cell_run import (
    FAILURE_FILE,
    Hashes,
    RunOutcome,
    StudyRun,
    read_json,
    read_outcome,
    write_cell,
)
from medseg.study.data_changes import FinishedRun, check_data_unchanged, dataset_key
from medseg.study.executors import CellCommand, CellResult, Executor, read_state
from medseg.system.locks import lock_folder
from medseg.training.run_folder.layout import RunFolder

INDEX_FILE, PREPARATION_FOLDER = "runs.json", "preparation"
_OTHER_FOLDER = "Choose another --output."
_MOST_CASES = 10

_LOGGER = logging.getLogger(__name__)

OnOutcome = Callable[[list[RunOutcome]], None]
"""Is called with all outcomes so far, in the order of the runs."""


def run_study(
    runs: Sequence[StudyRun],
    root: Path,
    executor: Executor,
    progress: Progress,
    on_outcome: OnOutcome,
    subject: str = "runs",
) -> list[RunOutcome]:
    """Run what is not complete; return one outcome per run.

    A run that fails is listed, and the others continue. A run that was interrupted continues where it stopped.

    Args:
        runs: the runs.
        root: folder of the study; one process at a time writes to it.
        executor: runs the cells.
        progress: receives the runs.
        on_outcome: called at the start with what is complete, and after each run: for tables that can be read
            while the study goes on.
        subject: what is compared; a folder keeps to one, because tables of another would replace them.

    Raises:
        ConfigError: if another process writes to the folder, it contains another study or other files, or
            settings do not fit the cases.
        DataError: if the dataset of a complete run changed since it began, or the cases of no run can be
            prepared, and none is complete.
        StudyStopped: on SIGTERM or SIGINT, after the running cells have saved their state.
    """
    board = _Board(runs)
    with lock_folder(root, "Wait for it, or choose another --output."), ExitStack() as stages:
        _check_folder(root, subject)
        complete = [run for run in runs if run.record() is not None and not _lacks_predictions(run)]
        finished = [FinishedRun(run.folder / "run", run.order.config.data) for run in complete]
        check_data_unchanged(root, finished, progress)
        _write_index(root, runs, subject)
        shown = stages.enter_context(stage(progress, len(runs), "running the study", unit="runs"))
        for run in complete:
            shown.advance(board.add(run, read_outcome(run)))
        for run, failure in _prepare(root, board, executor):
            shown.advance(board.add(run, read_outcome(run, failure)))
        if board.outcomes:
            on_outcome(board.outcomes)
        by_folder = {run.folder.absolute(): run for run in board.waiting}
        cells = [write_cell(run.name, run.folder, run.order) for run in board.waiting]

        def report(result: CellResult) -> None:
            run = by_folder[result.cell.folder]
            shown.advance(board.add(run, read_outcome(run, result)))
            on_outcome(board.outcomes)

        executor.run(cells, report)
    return board.outcomes


def _lacks_predictions(run: StudyRun) -> bool:
    """Return whether label maps of a complete run are missing, which its model can predict again."""
    missing = run.missing_predictions()
    if not missing:
        return False
    maps = f"{len(missing)} label map{' is' if len(missing) == 1 else 's are'} missing"
    shown = f"{run.name}: {maps} that had been evaluated, such as {missing[0].name}"
    if not RunFolder(run.folder / "run").model.is_file():
        _LOGGER.warning("%s; the model is missing, too: the scores are kept", shown)
        return False
    _LOGGER.warning("%s; the cases are predicted again", shown)
    return True


@dataclass
class _Board:
    """The outcomes so far.

    Attributes:
        runs: all runs.
        by_folder: their outcomes.
        files: dataset and case → hashes of its files in the first run that has it.
    """

    runs: Sequence[StudyRun]
    by_folder: dict[Path, RunOutcome] = field(default_factory=dict[Path, RunOutcome])
    files: dict[tuple[str, str], Hashes] = field(default_factory=dict[tuple[str, str], Hashes])

    @property
    def outcomes(self) -> list[RunOutcome]:
        """The outcomes so far, in the order of the runs."""
        return [self.by_folder[run.folder] for run in self.runs if run.folder in self.by_folder]

    @property
    def waiting(self) -> list[StudyRun]:
        """The runs without an outcome."""
        return [run for run in self.runs if run.folder not in self.by_folder]

    def add(self, run: StudyRun, outcome: RunOutcome) -> str:
        """Add an outcome; return a description of it in a few words."""
        outcome = self._checked(run, outcome)
        self.by_folder[run.folder] = outcome
        if outcome.status == "failed":
            _LOGGER.warning("failed: %s", outcome.describe())
        return f"{run.name}: {outcome.status}"

    def _checked(self, run: StudyRun, outcome: RunOutcome) -> RunOutcome:
        """Count a run as failed if files changed since the first run: a table must not mix their scores."""
        key = dataset_key(run.config.data)
        changed = [
            case
            for case, hashes in outcome.hashes.items()
            if self.files.setdefault((key, case), hashes) != hashes
        ]
        if not changed:
            return outcome
        shown = ", ".join(changed[:_MOST_CASES]) + (" …" if len(changed) > _MOST_CASES else "")
        error = f"files of {len(changed)} cases changed since the first run began, scores left out: {shown}"
        return replace(outcome, status="failed", rows=[], error=error)


def _prepare(root: Path, board: _Board, executor: Executor) -> list[tuple[StudyRun, CellResult]]:
    """Preprocess the cases of waiting runs, once for those that share them; return those with faulty cases.

    Raises:
        ConfigError, DataError: if no runs are left, and none is complete.
    """
    groups: dict[str, list[StudyRun]] = {}
    for run in board.waiting:
        groups.setdefault(_preparation(run), []).append(run)
    cells: dict[Path, list[StudyRun]] = {}
    commands: list[CellCommand] = []
    for key, members in groups.items():
        folder = (root / PREPARATION_FOLDER / key).absolute()
        if read_state(folder).status == "complete":
            continue
        order = members[0].order.model_copy(update={"task": "prepare"})
        name = f"preparing {members[0].dataset or 'the cases'}"
        commands.append(write_cell(name, folder, order))
        cells[folder] = members
    failed = [one for one in executor.run(commands) if not one.succeeded] if commands else []
    failures = [(run, result) for result in failed for run in cells[result.cell.folder]]
    if failed and len(failures) == len(board.runs):
        _raise(failed[0])
    return failures


def _preparation(run: StudyRun) -> str:
    """Return a key of what the preprocessed cases of a run depend on, without its fold."""
    config = run.config
    data = config.data.model_dump(mode="json", exclude={"cache", "workers", "worker_timeout"})
    data["split"].pop("fold", None)
    settings: list[Any] = [
        data, config.preprocess.model_dump(mode="json"), config.spatial_dims, config.sampling.patch_size,
        config.activation, run.part,
    ]  # fmt: skip
    return sha256_json(settings)[:12]


def _raise(result: CellResult) -> None:
    """Raise the error that a cell recorded."""
    failure = read_json(result.cell.folder / FAILURE_FILE)
    if not failure:
        raise DataError(
            f"the cases cannot be prepared: {result.describe()}", hint=result.tail(3) or None,
            path=result.cell.log,
        )  # fmt: skip
    kind = ConfigError if failure.get("exit_code") == ConfigError.exit_code else DataError
    raise kind(str(failure.get("message")), hint=failure.get("hint"), path=result.cell.log)


def _check_folder(root: Path, subject: str) -> None:
    """Raise a ConfigError if a folder contains a study of another subject, or other files."""
    earlier = read_json(root / INDEX_FILE).get("subject")
    if earlier is None and any(root.glob("[!.]*")):
        raise ConfigError(f"{root}: holds other files and no study", hint=_OTHER_FOLDER, path=root)
    if earlier not in (None, subject):
        raise ConfigError(
            f"{root}: contains a study of {earlier}, expected {subject}", hint=_OTHER_FOLDER, path=root
        )


def _write_index(root: Path, runs: Sequence[StudyRun], subject: str) -> None:
    """Record the subject and the runs, which ``medseg study status`` reads."""
    entries = [
        {
            "name": run.name,
            "folder": str(run.folder.relative_to(root)),
            "run": str((run.folder / "run").relative_to(root)),
            "record": str((run.folder / run.part / "complete.json").relative_to(root)),
            "digest": run.cell.digest,
            "preparation": f"{PREPARATION_FOLDER}/{_preparation(run)}",
        }
        for run in runs
    ]
    write_json(root / INDEX_FILE, {"subject": subject, "runs": entries})
