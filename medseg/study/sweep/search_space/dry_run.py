"""The checks of a sweep that need no training: everything that is wrong, in one error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from medseg.config.schema import RunConfig, load_config
from medseg.data.curation.case_statistics import total_counts
from medseg.errors import ConfigError, DataError, MedsegError
from medseg.study.cells import check_datasets
from medseg.study.sweep.search_space.options import SweepConfig, read_sweep
from medseg.study.sweep.search_space.space import SearchSpace
from medseg.study.sweep.search_space.space_check import build_space, check_objectives
from medseg.training.dataset.preparation import find_labeled_cases, measure_cases

T = TypeVar("T")


def check_sweep(
    source: Path | str | Mapping[str, Any],
    overrides: Sequence[str],
    description: Path | str | Mapping[str, Any],
) -> tuple[SweepConfig, SearchSpace]:
    """Check settings, search space, objectives and dataset of a sweep, and return the first two.

    Cases are measured if an objective names a label and the labels of the dataset are not declared.

    Args:
        source: configuration file or settings of which some are varied.
        overrides: settings of all trials, ``key=value``.
        description: file or content, as of :func:`read_sweep`.

    Raises:
        ConfigError, DataError: one error that lists everything that is wrong.
    """
    found: list[MedsegError] = []
    config = _collected(found, lambda: load_config(source, overrides))
    sweep = _collected(found, lambda: read_sweep(description))
    space = None
    if config is not None and sweep is not None:
        space = _collected(found, lambda: build_space(sweep.space, config.model_dump(mode="json")))
    if config is not None:
        _collected(found, lambda: _check_dataset(config, () if sweep is None else sweep.objectives))
    if sweep is None or space is None or found:
        raise _joined(found)
    return sweep, space


def _check_dataset(config: RunConfig, objectives: Sequence[str]) -> None:
    check_datasets([config])
    if any(":" in one for one in objectives):
        _, plan = find_labeled_cases(config.data)
        labels = plan.schema or plan.resolve(total_counts(measure_cases(plan, config.data.cache))).schema
        check_objectives(objectives, labels)


def _collected(found: list[MedsegError], check: Callable[[], T]) -> T | None:
    """Return the result of a check; of one that fails None, and its error is collected."""
    try:
        return check()
    except MedsegError as error:
        found.append(error)
        return None


def _joined(found: Sequence[MedsegError]) -> MedsegError:
    """Return one error for several."""
    if len(found) == 1:
        return found[0]
    lines = [str(error).replace("\n", "\n  ") for error in found]
    kind = ConfigError if any(isinstance(error, ConfigError) for error in found) else DataError
    return kind(f"the sweep: {len(found)} things are wrong:\n  " + "\n  ".join(lines))
