"""One run of a study: training, prediction of the compared cases, evaluation."""

from __future__ import annotations

import csv
import json
import logging
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.config.schema import RunConfig
from medseg.data.cases import Part
from medseg.errors import DiskFullError, TrainingStopped
from medseg.evaluation import EvaluationOptions, evaluate_cases
from medseg.files import write_json, write_text
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import run_cases
from medseg.inference.model.predictor import Predictor
from medseg.progress import Progress
from medseg.study.cells import Cell
from medseg.study.run_scores import write_reference
from medseg.training.fit import fit
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import read_log

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyRun:
    """One training of a study.

    Attributes:
        cell: its settings.
        seed: its seed.
        root: folder of the study.
        part: the part of the split that is predicted and evaluated.
    """

    cell: Cell
    seed: int
    root: Path
    part: Part = "test"

    @property
    def folder(self) -> Path:
        """Folder with the run folder ``run`` and one folder per evaluated part of the split."""
        return self.root / "cells" / self.cell.folder / f"seed_{self.seed}"

    @property
    def predictions(self) -> Path:
        """Folder of the predicted label maps."""
        return self.folder / self.part / "predictions"

    @property
    def metrics(self) -> Path:
        """Folder of the tables of the evaluation."""
        return self.folder / self.part / "metrics"

    @property
    def config(self) -> RunConfig:
        """The settings with the seed; preprocessed cases are shared by all runs of the study."""
        config = self.cell.config
        data = config.data.model_copy(update={"cache": config.data.cache or self.root / "cache"})
        return config.model_copy(update={"seed": self.seed, "data": data})

    @property
    def record(self) -> Path:
        """The file that marks the run as complete."""
        return self.folder / self.part / "complete.json"

    @property
    def failure_log(self) -> Path:
        """The traceback of the failure."""
        return self.folder / "failed.log"

    def is_complete(self) -> bool:
        """Return whether the run was evaluated with these settings on this part of the split."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return record.get("digest") == self.cell.digest


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of one run.

    Attributes:
        cell: name of the cell.
        seed: seed of the run.
        status: ``complete``; ``skipped``: it was complete before; or ``failed``.
        rows: scores of each case and label, as in ``cases.csv`` of ``medseg evaluate``; empty if it failed.
        seconds: time of the updates of the training.
        error: why it failed.
        log: file with the traceback of the failure.
    """

    cell: str
    seed: int
    status: str
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    seconds: float = 0.0
    error: str | None = None
    log: Path | None = None

    def describe(self) -> str:
        """Return cell and seed, and the error with its log or the status."""
        ending = f"{self.error} (log: {self.log})" if self.error else self.status
        return f"{self.cell}, seed {self.seed}: {ending}"


def execute_run(run: StudyRun, progress: Progress) -> RunOutcome:
    """Train, predict and evaluate; continue where an interrupted run stopped, and skip a complete one.

    An error ends the run, not the study: it is recorded in ``failed.log``.

    Raises:
        TrainingStopped: a signal stopped the training; it continues when the study is started again.
        DiskFullError: no space is left on the disk.
    """
    name, seed = run.cell.name, run.seed
    if run.is_complete():
        record = json.loads(run.record.read_text(encoding="utf-8"))
        rows = read_rows(run.metrics / "cases.csv")
        return RunOutcome(name, seed, "skipped", rows, record["seconds"])
    try:
        rows = _train_and_evaluate(run, progress)
    except (TrainingStopped, DiskFullError):
        raise
    except Exception as error:  # a failed run is listed, and the others continue
        write_text(run.failure_log, "".join(traceback.format_exception(error)))
        message = str(error) or type(error).__name__
        outcome = RunOutcome(name, seed, "failed", error=message, log=run.failure_log)
        _LOGGER.warning("failed: %s", outcome.describe())
        return outcome
    run.failure_log.unlink(missing_ok=True)
    seconds = sum(float(entry["seconds"]) for entry in read_log(RunFolder(run.folder / "run").log))
    write_json(run.record, {"digest": run.cell.digest, "seconds": seconds})
    return RunOutcome(name, seed, "complete", rows, seconds)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a ``cases.csv``; what is not quoted is a number."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, quoting=csv.QUOTE_NONNUMERIC))


def _train_and_evaluate(run: StudyRun, progress: Progress) -> list[dict[str, Any]]:
    config = run.config
    result = fit(config, run.folder / "run", resume="auto", progress=progress)
    predictor = Predictor(result.run, device=config.train.device, amp=config.train.amp)
    cases = run_cases(result.run, run.part)
    references = run.root / "references"
    for case in cases:
        write_reference(case, predictor.header, references)
    infer_cases(predictor, cases, run.predictions, progress=progress)
    evaluate_cases(run.predictions, references, run.metrics, EvaluationOptions(missing="worst"))
    return read_rows(run.metrics / "cases.csv")
