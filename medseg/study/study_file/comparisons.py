"""The comparisons at the end of a study: configurations on each dataset, as by ``medseg compare``."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, DataError
from medseg.evaluation.comparison import (
    Comparison,
    MethodScores,
    compare_scores,
    write_comparison,
    write_comparison_report,
)
from medseg.evaluation.comparison.options import resolve_metric
from medseg.evaluation.comparison.sources import SCORED
from medseg.evaluation.evaluation import CaseFiles
from medseg.evaluation.output import read_case_files
from medseg.inference.batch.input_discovery import run_cases
from medseg.study.cell_run import RunOutcome, StudyRun, read_json
from medseg.study.study_file.schema import ComparisonEntry, StudyConfig
from medseg.study.tables import complete_seeds

COMPARISONS, REPORT_FILE = "comparisons", "report.html"

_LOGGER = logging.getLogger(__name__)


def make_comparisons(
    study: StudyConfig, runs: Sequence[StudyRun], outcomes: Sequence[RunOutcome], root: Path
) -> dict[Path, Comparison]:
    """Make the comparisons of a study; one that is not possible is a warning."""
    made: dict[Path, Comparison] = {}
    for entry in study.comparisons if len(study.configs) > 1 else ():
        for dataset in study.datasets or ("",):
            folder = root / COMPARISONS / entry.name / dataset
            try:
                methods, seeds = _methods(entry, study, dataset, runs, outcomes)
                comparison = compare_scores(methods, entry.options(study.part))
                comparison = replace(comparison, notes=(*comparison.notes, *_seed_notes(seeds)))
                write_comparison(folder, comparison)
            except (ConfigError, DataError) as error:
                on = f" on {dataset}" if dataset else ""
                _LOGGER.warning("comparison %s%s is not possible: %s", entry.name, on, error)
                continue
            write_comparison_report(folder / REPORT_FILE, comparison)
            made[folder] = comparison
    return made


def _methods(
    entry: ComparisonEntry,
    study: StudyConfig,
    dataset: str,
    runs: Sequence[StudyRun],
    outcomes: Sequence[RunOutcome],
) -> tuple[list[MethodScores], list[int]]:
    """Return the scores of the compared configurations, each the mean over the seeds that all have; and these.

    The files of a method, which the report draws, are those of the first seed.

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
    first = [run for run in runs if run.dataset == dataset and run.seed == common[0]]
    methods: list[MethodScores] = []
    for name, seeds in scores.items():
        files, labels = find_files([run for run in first if run.cell.name == name])
        rows = average_rows([seeds[seed] for seed in common])
        requested = frozenset(str(row["case"]) for row in rows)  # splits of configurations may differ
        methods.append(
            MethodScores(
                name, rows, definitions=definitions, source=name, files=files, labels=labels,
                averaged=len(common) > 1, requested=requested,
            )
        )  # fmt: skip
    return methods, common


def find_files(runs: Sequence[StudyRun]) -> tuple[dict[str, CaseFiles], LabelSchema | None]:
    """Return case → its files in the runs of all folds, as far as they are known, and the labels in them."""
    found: dict[str, CaseFiles] = {}
    labels: LabelSchema | None = None
    for run in runs:
        files, own = read_case_files(run.metrics)
        labels = labels or own
        images: dict[str, Path] = {}
        with suppress(DataError):  # pictures without images are better than none
            images = {case.id: case.image for case in run_cases(run.folder / "run", run.part)}
        found |= {case: replace(one, image=images.get(case)) for case, one in files.items()}
    return found, labels


def _seed_notes(seeds: Sequence[int]) -> list[str]:
    if len(seeds) < 2:
        return []
    named = ", ".join(map(str, seeds))
    return [
        f"scores are means over {len(seeds)} seeds ({named}); pictures show the predictions of seed {seeds[0]}"
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
