"""The comparisons at the end of a study: configurations on each dataset, as by ``medseg compare``."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError, DataError
from medseg.evaluation.comparison import Comparison, MethodScores, compare_scores, write_comparison
from medseg.evaluation.comparison.options import resolve_metric
from medseg.evaluation.comparison.sources import SCORED
from medseg.report.pages.comparison.page import write_comparison_page
from medseg.study.cell_run import RunOutcome, StudyRun, changed_cases, read_json
from medseg.study.study_file.schema import ComparisonEntry, StudyConfig
from medseg.study.tables import complete_seeds

COMPARISONS, REPORT_FILE = "comparisons", "report.html"

_LOGGER = logging.getLogger(__name__)


def make_comparisons(
    study: StudyConfig, runs: Sequence[StudyRun], outcomes: Sequence[RunOutcome], root: Path
) -> dict[Path, Comparison]:
    """Make the comparisons of a study; one that is not possible is a warning, also if cases changed."""
    made: dict[Path, Comparison] = {}
    changed = changed_cases(outcomes)
    if changed:
        _LOGGER.warning("no comparison: %d cases changed between the runs, see table.md", len(changed))
        return made
    for entry in study.comparisons if len(study.configs) > 1 else ():
        for dataset in study.datasets or ("",):
            folder = root / COMPARISONS / entry.name / dataset
            try:
                methods = _methods(entry, study, dataset, runs, outcomes)
                comparison = compare_scores(methods, entry.options(study.part))
                write_comparison(folder, comparison)
            except (ConfigError, DataError) as error:
                on = f" on {dataset}" if dataset else ""
                _LOGGER.warning("comparison %s%s is not possible: %s", entry.name, on, error)
                continue
            write_comparison_page(folder / REPORT_FILE, comparison.to_json())
            made[folder] = comparison
    return made


def _methods(
    entry: ComparisonEntry,
    study: StudyConfig,
    dataset: str,
    runs: Sequence[StudyRun],
    outcomes: Sequence[RunOutcome],
) -> list[MethodScores]:
    """Return the scores of the compared configurations, each the mean over the seeds that all have.

    Raises:
        DataError: if fewer than two have scores.
    """
    own = [outcome for outcome in outcomes if outcome.dataset == dataset]
    scores = {name: complete_seeds(name, own, study.folds or 1) for name in entry.configs or study.configs}
    scores = {name: seeds for name, seeds in scores.items() if seeds}
    if len(scores) < 2:
        raise DataError("fewer than two configurations have scores")
    common = [seed for seed in study.seeds if all(seed in seeds for seeds in scores.values())]
    if not common:
        raise DataError("no seed is complete for all configurations")
    some = next(run for run in runs if run.dataset == dataset and run.cell.name in scores and run.record())
    definitions = read_json(some.metrics / "summary.json").get("definitions", {})
    return [
        MethodScores(
            name,
            average_rows([seeds[seed] for seed in common]),
            definitions=definitions,
            source=name,
            averaged=len(common) > 1,
        )
        for name, seeds in scores.items()
    ]


def average_rows(rows_of_seeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row per case and label with the means over seeds.

    Where a score is undefined for some seeds, because their prediction correctly contains nothing, it counts
    as the best value.
    """
    together: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for rows in rows_of_seeds:
        for row in rows:
            together.setdefault((str(row["case"]), str(row["name"])), []).append(row)
    return [_average(rows) for rows in together.values()]


def _average(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    averaged: dict[str, Any] = dict(rows[0])
    averaged["status"] = next((row["status"] for row in rows if row["status"] != SCORED), SCORED)
    for key, first in rows[0].items():
        if isinstance(first, float) and key not in ("case", "label", "name"):
            averaged[key] = _mean(key, [float(row[key]) for row in rows])
    return averaged


def _mean(column: str, values: Sequence[float]) -> float:
    if any(map(math.isnan, values)) and not all(map(math.isnan, values)):
        try:
            best = resolve_metric(column).best
        except ConfigError:  # a size or count
            best = math.nan
        values = [best if math.isnan(value) else value for value in values]
    return sum(values) / len(values)
