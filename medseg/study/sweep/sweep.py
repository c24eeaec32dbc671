"""``run_sweep``: search for better settings, in one or several processes that share a study."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from medseg.config.schema import RunConfig, check_run_config
from medseg.errors import DataError, DiskFullError, MedsegError, TrainingError, TrainingStopped
from medseg.files import write_text
from medseg.progress import ConsoleProgress, Progress, stage
from medseg.study.data_changes import FinishedRun, check_data_unchanged, differing_cases
from medseg.study.sweep.results import SweepResult, summarize, write_results
from medseg.study.sweep.search_space.options import SweepConfig
from medseg.study.sweep.search_space.space import describe_changes
from medseg.study.sweep.search_space.space_check import check_objectives
from medseg.study.sweep.shared_study import OpenTrial, SharedStudy
from medseg.study.sweep.study_folder import SweepFolder
from medseg.study.sweep.trial_run import TrialJob, run_trial
from medseg.study.sweep.workers import run_workers
from medseg.training.dataset.preparation import cache_dataset, prepare_dataset
from medseg.training.loop_setup import network_needs
from medseg.training.run_folder.log import read_log

_LOGGER = logging.getLogger(__name__)

Execute = Callable[[TrialJob, Progress], tuple[float, ...]]
"""Runs a trial and returns the value of each objective; nan if it was pruned."""

_MOST_FAILURES = 3
"""Trials that may fail before the first one succeeds."""
_WAIT_SECONDS = 2.0
_REPORT_SECONDS = 10.0
"""Shortest time between two versions of the report."""


def run_sweep(
    config: RunConfig,
    sweep: SweepConfig,
    output: Path | str,
    *,
    trials: int,
    jobs: int = 1,
    progress: Progress | None = None,
) -> SweepResult:
    """Search for better settings by trainings, which are compared on the validation cases.

    The space is validated before the first trial. Several processes, also on other machines, may work on the
    same folder: each runs this function with the same arguments. The function returns when all trials are
    accounted for. A trial whose process was killed is continued from its last checkpoint, by another process or
    when the sweep is started again. A trial that fails is listed, and the others go on. ``trials.csv``,
    ``best.yaml`` and ``report.html`` follow every trial.

    The test cases are not read. Measure the chosen settings on them once, at the end.

    Args:
        config: the settings that are varied.
        sweep: the search space, the objectives, how trials are drawn and pruned.
        output: folder of the study. Preprocessed cases are shared by the trials in ``cache``, unless
            ``data.cache`` is set.
        trials: number of trials in the study, those of earlier calls included.
        jobs: processes on this machine, which share its cores and GPUs.
        progress: receives the progress. By default it is shown on standard error.

    Raises:
        ConfigError: if the space or a setting is invalid, the folder contains another study, or Optuna is not
            installed.
        DataError: if there are no validation cases, cases are faulty, or the dataset changed since a finished
            trial began.
        TrainingError: if the first three trials fail.
        TrainingStopped: on SIGTERM or SIGINT, after saving.
        DiskFullError: if no space is left on the disk.

    Example:
        >>> space = {"train.optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "train.ema": [0, 0.98]}
        >>> sweep = read_sweep({"space": space})  # doctest: +SKIP
        >>> result = run_sweep(load_config("config.yaml"), sweep, "sweep", trials=20)  # doctest: +SKIP
        >>> result.best.scores, result.config.train.ema  # doctest: +SKIP
        ((0.87,), 0.98)
    """
    if progress is None:
        with ConsoleProgress() as shown:
            return run_sweep(config, sweep, output, trials=trials, jobs=jobs, progress=shown)
    check_run_config(config)
    folder = SweepFolder(Path(output))
    space = folder.start(config, sweep)
    shared = SharedStudy(folder.root, sweep, space)
    check_data_unchanged(folder.root, _finished_runs(folder, shared), progress, removable=False)
    worker = SweepWorker(folder, shared, progress, trials)
    if not worker.is_finished():
        _prepare_cases(folder.trial_config(space.config({})), sweep, progress)
        if jobs > 1:
            run_workers(folder, trials, jobs)
            worker.recount()
        with stage(progress, trials, "searching for settings", unit="trials", completed=worker.counted):
            worker.run()
    return worker.report()


@dataclass
class SweepWorker:
    """Runs trials of a shared study until all of them are accounted for.

    Attributes:
        folder: of the sweep.
        shared: its trials.
        progress: receives each trial that ends, also in another process.
        trials: number of trials of the study.
        execute: runs a trial.
    """

    folder: SweepFolder
    shared: SharedStudy
    progress: Progress
    trials: int
    execute: Execute = run_trial
    counted: int = field(init=False)
    _written: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.recount()

    def recount(self) -> None:
        """Count the trials that are accounted for."""
        self.counted = self._finished()

    def is_finished(self) -> bool:
        """Return whether all trials are accounted for."""
        return self._finished() >= self.trials and not self.shared.is_worked_on()

    def run(self) -> None:
        """Run trials; wait for those of other processes, and continue them if these are killed.

        Raises:
            TrainingStopped: a signal stopped the training; the trial continues when the sweep is started again.
            TrainingError: the first three trials failed.
            DiskFullError: no space is left on the disk.
        """
        waiting = False
        while True:
            trial = self.shared.next_trial(self.trials)
            if trial is not None:
                self._run(trial)
                _LOGGER.info(self.report(every=_REPORT_SECONDS).describe())
                self._count()
            elif self.shared.is_worked_on():
                if not waiting:
                    _LOGGER.info("waiting for the trials of other processes")
                waiting = True
                time.sleep(_WAIT_SECONDS)
                self._count()
            else:
                self.report()
                return

    def report(self, *, every: float = 0.0) -> SweepResult:
        """Return the result so far; write its files, if the last ones are ``every`` seconds old."""
        result = summarize(self.folder, self.shared.records(), self.shared.space, self.shared.sweep)
        if time.monotonic() - self._written >= every:
            write_results(self.folder, result, self.shared.space, self.shared.sweep)
            self._written = time.monotonic()
        return result

    def _run(self, trial: OpenTrial) -> None:
        """Run one trial; an error ends the trial, not the sweep."""
        folder = self.shared.folder(trial.number)
        log = folder / "failed.log"
        verb = "continued" if trial.continued else "started"
        drawn = describe_changes(self.shared.space.records(trial.changes))
        _LOGGER.info("trial %d %s: %s", trial.number, verb, drawn)
        with trial.claim:
            try:
                job = self._job(trial, folder)
                values = self.execute(job, self.progress)
                self._check_same_files(trial.number)
                self.shared.complete(trial.number, values, self._seconds(folder))
            except (TrainingStopped, DiskFullError):
                raise
            except Exception as error:  # a failed trial is listed, and the others go on
                write_text(log, "".join(traceback.format_exception(error)))
                message = str(error) or type(error).__name__
                self.shared.fail(trial.number, message)
                _LOGGER.warning("trial %d failed: %s (log: %s)", trial.number, message, log)
                self._stop_if_nothing_works(error)

    def _check_same_files(self, number: int) -> None:
        """Raise a DataError if a trial trained on other files than the first one that has scores."""
        first = next((one.number for one in self.shared.records() if one.scored), number)
        one, other = (self.shared.folder(each) / "run" / "cases.json" for each in (first, number))
        changed = differing_cases(one, other)
        if changed:
            raise DataError(f"files of {len(changed)} cases changed since trial {first} began: {changed[:10]}")

    def _job(self, trial: OpenTrial, folder: Path) -> TrialJob:
        config = self.folder.trial_config(self.shared.space.config(trial.changes))
        tracking = config.train.tracking.named(f"{folder.absolute().parents[1].name}, trial {trial.number}")
        train = config.train.model_copy(update={"tracking": tracking})
        config = config.model_copy(update={"train": train})
        sweep = self.shared.sweep
        return TrialJob(
            config, folder, self.folder.references, sweep.objectives, trial if sweep.pruning != "none" else None
        )

    def _stop_if_nothing_works(self, error: Exception) -> None:
        records = [one for one in self.shared.records() if one.finished]
        if len(records) >= _MOST_FAILURES and all(one.state == "failed" for one in records):
            hint = error.hint if isinstance(error, MedsegError) else None
            raise TrainingError(
                f"{self.folder.root}: the first {len(records)} trials failed, the last one with: {error}",
                hint=hint or "Fix the cause and choose another --output.",
            ) from error

    def _count(self) -> None:
        """Report the trials that have ended to the progress, also those of other processes."""
        finished = self._finished()
        while self.counted < min(finished, self.trials):
            self.counted += 1
            self.progress.advance()

    def _finished(self) -> int:
        return sum(trial.finished for trial in self.shared.records())

    @staticmethod
    def _seconds(folder: Path) -> float:
        return sum(float(entry["seconds"]) for entry in read_log(folder / "run" / "log.jsonl"))


def _finished_runs(folder: SweepFolder, shared: SharedStudy) -> list[FinishedRun]:
    """Return the trainings of the trials that have scores."""
    data = folder.trial_config(shared.space.config({})).data
    return [FinishedRun(shared.folder(one.number) / "run", data) for one in shared.records() if one.scored]


def _prepare_cases(config: RunConfig, sweep: SweepConfig, progress: Progress) -> None:
    """Measure, split and preprocess the cases once, so that no trial's time budget pays for it.

    Raises:
        ConfigError: if an objective names a label that does not exist.
        DataError: if there are no validation cases, or cases are faulty.
    """
    cache = config.data.cache
    assert cache is not None  # set by the folder of the sweep
    dataset = prepare_dataset(
        config.data, config.preprocess, network_needs(config), cache / "facts", progress=progress
    )
    if "val" not in dataset.split.values():
        raise DataError(
            "the split has no validation cases to compare the trials with", hint="Set data.split.val above 0."
        )
    check_objectives(sweep.objectives, dataset.labels)
    cache_dataset(dataset, cache, progress)
