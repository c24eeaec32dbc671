"""One run of a study: where it is, what it runs as, and its outcome."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from medseg.config.base import Spec
from medseg.config.schema import RunConfig, with_absolute_paths
from medseg.data.cases import Part
from medseg.data.curation.splits import FoldSplit
from medseg.errors import MedsegError
from medseg.evaluation.output import read_case_files
from medseg.files import as_json_object, write_json
from medseg.metrics import MetricGroup
from medseg.study.cells import Cell
from medseg.study.executors import CellCommand, CellResult
from medseg.training.run_folder.case_record import read_record

ORDER_FILE, FAILURE_FILE = "cell.json", "failed.json"
Hashes = tuple[str, str | None]
"""SHA-256 of the image and of the label map of a case."""
DEFAULT_GROUPS: tuple[MetricGroup, ...] = ("overlap", "boundary")


class CellOrder(Spec):
    """What a cell does, as ``cell.json`` in its folder.

    Attributes:
        config: its settings.
        task: ``train``: train, predict and evaluate; ``prepare``: preprocess the cases.
        digest: of the settings.
        part: the part of the split that is predicted and evaluated.
        groups: groups of metrics of the evaluation.
        references: folder of the label maps that predictions are compared with.
    """

    config: RunConfig
    task: Literal["train", "prepare"]
    digest: str
    part: Part
    groups: tuple[MetricGroup, ...] = DEFAULT_GROUPS
    references: Path


@dataclass(frozen=True)
class StudyRun:
    """One training of a study.

    Attributes:
        cell: its settings.
        seed: its seed.
        root: folder of the study.
        part: the part of the split that is predicted and evaluated.
        dataset: name of its dataset, if the study has several.
        fold: index of its validation fold; None without cross-validation.
        groups: groups of metrics of the evaluation.
    """

    cell: Cell
    seed: int
    root: Path
    part: Part = "test"
    dataset: str = ""
    fold: int | None = None
    groups: tuple[MetricGroup, ...] = DEFAULT_GROUPS

    @property
    def name(self) -> str:
        """Dataset, cell, seed and fold, as in messages."""
        names = [self.dataset, self.cell.name, f"seed {self.seed}"]
        return ", ".join(
            [name for name in names if name] + ([] if self.fold is None else [f"fold {self.fold}"])
        )

    @property
    def folder_of_cell(self) -> Path:
        """Folder of the runs of the cell on its dataset."""
        return self.root / "cells" / self.dataset / self.cell.folder

    @property
    def folder(self) -> Path:
        """Folder with the run folder ``run`` and one folder per evaluated part of the split."""
        folder = self.folder_of_cell / f"seed_{self.seed}"
        return folder if self.fold is None else folder / f"fold_{self.fold}"

    @property
    def metrics(self) -> Path:
        """Folder of the tables of the evaluation."""
        return self.folder / self.part / "metrics"

    @property
    def config(self) -> RunConfig:
        """The settings with seed, fold and name; preprocessed cases are shared by all runs of the study."""
        config = self.cell.config
        data = config.data.model_copy(update={"cache": config.data.cache or self.root / "cache"})
        if self.fold is not None and isinstance(data.split, FoldSplit):
            split = data.split.model_copy(update={"fold": self.fold})
            data = data.model_copy(update={"split": split})
        tracking = config.train.tracking.named(f"{self.root.absolute().name}, {self.name}")
        train = config.train.model_copy(update={"tracking": tracking})
        return config.model_copy(update={"seed": self.seed, "data": data, "train": train})

    @property
    def order(self) -> CellOrder:
        """What the process of the run does."""
        return CellOrder(
            config=with_absolute_paths(self.config), task="train", digest=self.cell.digest, part=self.part,
            groups=self.groups, references=(self.root / "references" / self.dataset).absolute(),
        )  # fmt: skip

    def record(self) -> dict[str, Any] | None:
        """Return the seconds and the score of a run that was evaluated with these settings; else None.

        A run whose table of scores was deleted is not complete: it is evaluated again.
        """
        record = read_json(self.folder / self.part / "complete.json")
        known = record.get("digest") == self.cell.digest and set(self.groups) <= set(record.get("groups", ()))
        return record if known and (self.metrics / "cases.csv").is_file() else None

    def missing_predictions(self) -> list[Path]:
        """Return the label maps that were evaluated and no longer exist."""
        files, _ = read_case_files(self.metrics)
        predictions = (one.prediction for one in files.values())
        return [path for path in predictions if path is not None and not path.exists()]


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
        log: file with everything that the run printed.
        dataset: name of its dataset, if the study has several.
        fold: index of its validation fold; None without cross-validation.
        hashes: case → hashes of its image and its label map when the run began.
    """

    cell: str
    seed: int
    status: str
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    seconds: float = 0.0
    error: str | None = None
    log: Path | None = None
    dataset: str = ""
    fold: int | None = None
    hashes: Mapping[str, Hashes] = field(default_factory=dict[str, Hashes])

    def describe(self) -> str:
        """Return dataset, cell, seed and fold, and the error with its log or the status."""
        names = [self.dataset, self.cell, f"seed {self.seed}", "" if self.fold is None else f"fold {self.fold}"]
        ending = f"{shortened(self.error)} (log: {self.log})" if self.error else self.status
        return f"{', '.join(name for name in names if name)}: {ending}"


def find_left_out(runs: Sequence[StudyRun]) -> list[str]:
    """Return the complete runs in the folder of a study that are none of its runs.

    They are those of seeds, configurations or datasets that an earlier command had.

    Returns:
        Other seeds of the cells of the study, such as ``seed 1``; then the folders of other cells.
    """
    root, cells = runs[0].root, {run.folder_of_cell for run in runs}
    own, folded = {run.folder for run in runs}, runs[0].fold is not None
    pattern = f"seed_*/{'fold_*/' if folded else ''}{runs[0].part}/complete.json"
    every = [
        path.parents[1] for path in sorted(root.glob(f"cells/{'*/' if runs[0].dataset else ''}*/{pattern}"))
    ]
    others = [folder for folder in every if folder not in own]
    seeds: dict[str, None] = {}
    folders: dict[str, None] = {}
    for folder in others:
        seed = folder.parent if folded else folder
        if seed.parent in cells:
            seeds[seed.name.replace("_", " ")] = None
        else:
            folders[seed.parent.relative_to(root).as_posix()] = None
    return [*seeds, *folders]


def write_cell(name: str, folder: Path, order: CellOrder) -> CellCommand:
    """Write the order of a cell to its folder, and return its command."""
    folder = folder.absolute()
    write_json(folder / ORDER_FILE, order.model_dump(mode="json"))
    (folder / FAILURE_FILE).unlink(missing_ok=True)
    return CellCommand.medseg(name, ["study", "cell", str(folder)], folder)


def read_outcome(run: StudyRun, result: CellResult | None = None) -> RunOutcome:
    """Return the outcome of a run.

    Args:
        run: the run.
        result: the end of its process; None if it was complete before.
    """
    outcome = RunOutcome(run.cell.name, run.seed, "failed", dataset=run.dataset, fold=run.fold)
    record = run.record()
    if result is not None and (record is None or not result.succeeded):
        return replace(outcome, error=describe_failure(result), log=result.cell.log)
    if record is None:
        return replace(outcome, error="it was not run")
    status, rows = "skipped" if result is None else "complete", read_rows(run.metrics / "cases.csv")
    hashes = _read_hashes(run.folder / "run" / "cases.json")
    return replace(outcome, status=status, rows=rows, seconds=float(record["seconds"]), hashes=hashes)


def _read_hashes(path: Path) -> dict[str, Hashes]:
    try:
        record = read_record(path)
    except MedsegError:  # damaged; the scores are complete
        return {}
    return {} if record is None else {i: (c.image_sha256, c.label_sha256) for i, c in record.cases.items()}


def describe_failure(result: CellResult) -> str:
    """Return the error that a cell recorded, or how its process ended."""
    error = read_json(result.cell.folder / FAILURE_FILE).get("error")
    return str(error) if error and not result.stopped else result.ending


def shortened(error: str) -> str:
    """Return the first two lines of an error as one; its log has the others, such as a list of faulty cases."""
    lines = [line.strip() for line in error.splitlines()]
    return " ".join(lines[:2]) + (" …" if len(lines) > 2 else "")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file does not exist or is no object."""
    try:
        return as_json_object(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a ``cases.csv``; what is not quoted is a number."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, quoting=csv.QUOTE_NONNUMERIC))
