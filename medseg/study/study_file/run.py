"""``run_study_file``: run a study that a file describes, and make its comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.evaluation.comparison import Comparison
from medseg.metrics import MetricGroup
from medseg.progress import ConsoleProgress, Progress
from medseg.study.cell_run import DEFAULT_GROUPS, RunOutcome, StudyRun, find_left_out
from medseg.study.cells import Cell
from medseg.study.engine import run_study
from medseg.study.executors import Executor
from medseg.study.methods import with_groups
from medseg.study.study_file.comparisons import make_comparisons
from medseg.study.study_file.loading import plan_study
from medseg.study.study_file.schema import StudyConfig
from medseg.study.tables import tabulate, write_tables


@dataclass(frozen=True)
class StudyResult:
    """The result of a study.

    Attributes:
        output: folder of the study, with ``table.md``, ``table.csv`` and ``cases.csv``.
        outcomes: one per run.
        table: one dict per dataset and configuration, as in ``table.csv``.
        markdown: the table as in ``table.md``.
        comparisons: folder of a comparison → the comparison.
    """

    output: Path
    outcomes: list[RunOutcome]
    table: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    markdown: str = ""
    comparisons: dict[Path, Comparison] = field(default_factory=dict[Path, Comparison])

    @property
    def failed(self) -> list[RunOutcome]:
        """The runs that failed."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]


def plan_runs(study: StudyConfig, root: Path) -> tuple[dict[str, list[Cell]], list[StudyRun]]:
    """Return the cells of each dataset, and all runs: of all configurations with the first seed and fold first.

    Raises:
        ConfigError: if settings are invalid.
    """
    cells, groups = plan_study(study), metric_groups(study)
    folds: Sequence[int | None] = [None] if study.folds is None else range(study.folds)
    runs = [
        StudyRun(cell, seed, root, study.part, dataset, fold, groups)
        for seed in study.seeds
        for fold in folds
        for dataset, own in cells.items()
        for cell in own
    ]
    return cells, runs


def metric_groups(study: StudyConfig) -> tuple[MetricGroup, ...]:
    """Return the groups of metrics that the comparisons of a study need."""
    groups = dict.fromkeys(DEFAULT_GROUPS)
    for one in study.comparisons:
        groups |= dict.fromkeys(with_groups(one.options(study.part)).metrics)
    return tuple(groups)


def run_study_file(
    study: StudyConfig,
    output: Path | str,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> StudyResult:
    """Train, predict and evaluate every run of a study, and make its comparisons.

    All settings are validated before the first training. Started again with the same output folder, the study
    skips complete runs and continues those that were interrupted. A run that fails is listed, and the others
    continue. The tables are written after every run.

    Args:
        study: the study, as from :func:`load_study`.
        output: folder of the study; one process at a time writes to it.
        executor: runs the trainings; by default that of the study.
        progress: receives the progress. By default it is shown on standard error.

    Raises:
        ConfigError: if settings are invalid, or another process writes to the folder.
        DataError: if the cases of no run can be prepared.
        StudyStopped: on SIGTERM or SIGINT, after saving.

    Example:
        >>> result = run_study_file(load_study("study.yaml"), "studies/first")  # doctest: +SKIP
        >>> print(result.markdown, result.failed)  # doctest: +SKIP
    """
    if progress is None:
        with ConsoleProgress() as shown:
            return run_study_file(study, output, executor=executor, progress=shown)
    root = Path(output)
    cells, runs = plan_runs(study, root)
    outcomes: list[RunOutcome] = []
    left_out = find_left_out(runs)

    def write(current: list[RunOutcome]) -> None:
        outcomes[:] = current
        table = _tabulate(study, cells, current)
        write_tables(root, study.part, table, current, left_out)

    run_study(
        runs,
        root,
        executor or study.executor.build(root),
        progress,
        write,
        f"a study file on the {study.part} cases",
    )
    table = _tabulate(study, cells, outcomes)
    markdown = write_tables(root, study.part, table, outcomes, left_out)
    comparisons = make_comparisons(study, runs, outcomes, root)
    return StudyResult(root, outcomes, table, markdown, comparisons)


def _tabulate(
    study: StudyConfig, cells: Mapping[str, Sequence[Cell]], outcomes: Sequence[RunOutcome]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for dataset, own in cells.items():
        of_dataset = [outcome for outcome in outcomes if outcome.dataset == dataset]
        named = {"dataset": dataset} if dataset else {}
        rows += [{**named, **row} for row in tabulate(own, of_dataset, folds=study.folds or 1)]
    return rows
