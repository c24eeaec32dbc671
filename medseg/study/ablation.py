"""``run_ablation``: train the cells of a grid of settings on the same cases, and compare them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.data.cases import Part
from medseg.errors import ConfigError
from medseg.progress import ConsoleProgress, Progress
from medseg.study.cell_run import RunOutcome, StudyRun, find_left_out
from medseg.study.cells import Cell, Design, plan_cells
from medseg.study.engine import run_study
from medseg.study.executors import Executor, LocalExecutor
from medseg.study.tables import tabulate, write_tables


@dataclass(frozen=True)
class AblationConfig:
    """What an ablation compares.

    Attributes:
        source: configuration file or settings of the baseline.
        grid: dotted key of a setting → the values that are compared.
        overrides: settings of all runs, ``key=value``.
        seeds: one run of each cell per seed; the split does not depend on them.
        design: ``grid``, every combination of the values, or ``one_at_a_time``, each value alone with the other
            settings of the baseline.
        part: the part of the split whose cases are compared.

    Raises:
        ConfigError: if there are no settings or no seeds, or a seed appears twice.

    Example:
        >>> config = AblationConfig({"data": {"path": "DATA"}}, {"train.ema": (0, 0.98)}, seeds=(0, 1))
        >>> [cell.name for cell in config.cells()]
        ['baseline', 'train.ema=0.98']
    """

    source: Path | str | Mapping[str, Any]
    grid: Mapping[str, tuple[Any, ...]]
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    design: Design = "grid"
    part: Part = "test"

    def __post_init__(self) -> None:
        if not self.grid:
            raise ConfigError("no settings to compare", hint="Give one, for example train.ema=[0, 0.98].")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds are {list(self.seeds)}, expected different numbers from 0")
        if "seed" in self.grid:
            raise ConfigError("seed is not a setting to compare", hint="Use --seeds (in Python seeds=).")

    @property
    def subject(self) -> str:
        """The settings that are compared, and on which cases."""
        return f"{', '.join(sorted(self.grid))} on the {self.part} cases"

    def cells(self) -> list[Cell]:
        """Return the cells, the baseline first.

        Raises:
            ConfigError: if the settings of a cell are invalid.
        """
        return plan_cells(self.source, self.grid, self.overrides, self.design)


@dataclass(frozen=True)
class AblationResult:
    """The result of an ablation.

    Attributes:
        output: folder of the study, with ``table.md``, ``table.csv`` and ``cases.csv``.
        outcomes: one per run, in the order of the cells and seeds.
        table: one dict per cell, as in ``table.csv``.
        markdown: the table as in ``table.md``.
    """

    output: Path
    outcomes: list[RunOutcome]
    table: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    markdown: str = ""

    @property
    def failed(self) -> list[RunOutcome]:
        """The runs that failed."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]


def run_ablation(
    config: AblationConfig,
    output: Path | str,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> AblationResult:
    """Train, predict and evaluate every cell of an ablation with every seed, and compare them.

    All settings are validated before the first training. Started again with the same output folder, the study
    skips complete runs and continues the one that was interrupted. A run that fails is listed, and the others
    continue. The tables are written after every run, so that they can be read while the study goes on.

    Args:
        config: what is compared.
        output: folder of the study; one process at a time writes to it. Preprocessed cases are shared by the
            runs in ``cache``, unless ``data.cache`` is set.
        executor: runs the trainings; by default one after the other on this machine.
        progress: receives the progress. By default it is shown on standard error.

    Raises:
        ConfigError: if settings are invalid, or another process writes to the folder.
        DataError: if the split has no cases to compare, or cases are faulty.
        StudyStopped: on SIGTERM or SIGINT, after saving.

    Example:
        >>> config = AblationConfig("config.yaml", {"train.ema": (0, 0.98)}, seeds=(0, 1))  # doctest: +SKIP
        >>> print(run_ablation(config, "studies/ema").markdown)  # doctest: +SKIP
    """
    if progress is None:
        with ConsoleProgress() as shown:
            return run_ablation(config, output, executor=executor, progress=shown)
    root, cells = Path(output), config.cells()
    runs = [StudyRun(cell, seed, root, config.part) for cell in cells for seed in config.seeds]
    result, left_out = AblationResult(root, []), find_left_out(runs)

    def write(outcomes: list[RunOutcome]) -> None:
        nonlocal result
        table = tabulate(cells, outcomes)
        text = write_tables(root, config.part, table, outcomes, left_out)
        result = AblationResult(root, outcomes, table, text)

    run_study(runs, root, executor or LocalExecutor(), progress, write, config.subject)
    return result
