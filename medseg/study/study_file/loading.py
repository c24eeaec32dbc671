"""Load a study from a file, and plan its cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medseg.config.errors import explain
from medseg.config.included import included_configs
from medseg.config.loading import apply_override, check_overrides, read_yaml
from medseg.config.schema import load_config
from medseg.data.curation.splits import FoldSplit
from medseg.errors import ConfigError
from medseg.study.cells import Cell, format_override, settings_digest
from medseg.study.study_file.schema import DatasetEntry, Settings, StudyConfig


def load_study(source: Path | str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Load a study from a YAML file, with absolute paths, and apply overrides of its keys.

    Args:
        source: the file.
        overrides: ``key.sub=value`` with a YAML value, such as ``executor.jobs=2``.

    Raises:
        ConfigError: names every wrong key, what was expected and, for an unknown key, the nearest key.
    """
    check_overrides(overrides)
    source = Path(source)
    raw = read_yaml(source)
    for override in overrides:
        apply_override(raw, override)
    try:
        study = StudyConfig.model_validate(raw)
    except ValidationError as error:
        lines = explain(error, StudyConfig)
        raise ConfigError(f"{source}: " + "\n  ".join(lines), path=source) from error
    folder = source.resolve().parent
    configs = {
        name: entry.model_copy(update={"config": str(_find(entry.config, folder, source))})
        for name, entry in study.configs.items()
    }
    datasets = {
        name: entry.model_copy(update={"path": folder / entry.path.expanduser()})
        for name, entry in study.datasets.items()
    }
    return study.model_copy(update={"configs": configs, "datasets": datasets})


def plan_study(study: StudyConfig) -> dict[str, list[Cell]]:
    """Return the cells of each dataset, one per configuration; the name of the dataset is empty without any.

    Raises:
        ConfigError: if settings of a cell are invalid; the message names the cell.
    """
    datasets: dict[str, DatasetEntry | None] = {**study.datasets} or {"": None}
    return {
        name: [_cell(study, config, dataset) for config in study.configs] for name, dataset in datasets.items()
    }


def _cell(study: StudyConfig, name: str, dataset: DatasetEntry | None) -> Cell:
    entry = study.configs[name]
    settings: Settings = {} if study.folds is None else {"train.checkpoint": "last"}
    if study.budget is not None:
        settings["train.budget"] = study.budget
    settings |= study.set
    if dataset is not None:
        settings |= {"data.path": str(dataset.path), **dataset.set}
    settings |= entry.set
    try:
        config = load_config(entry.config, [format_override(key, value) for key, value in settings.items()])
    except ConfigError as error:
        raise ConfigError(f"configuration {name}: {error.message}", hint=error.hint) from error
    if study.folds is not None:
        split = FoldSplit(folds=study.folds, **_kept(config.data.split))
        config = config.model_copy(update={"data": config.data.model_copy(update={"split": split})})
    return Cell(name, entry.set, config, settings_digest(config))


def _kept(split: Any) -> dict[str, Any]:
    """Return the settings that a split has in common with one into folds, but for the test part."""
    return {key: getattr(split, key) for key in ("seed", "stratify") if hasattr(split, key)}


def _find(config: str, folder: Path, source: Path) -> Path:
    """Return the configuration file that a study names."""
    path = folder / Path(config).expanduser()
    if path.is_file():
        return path
    included = [one for one in included_configs() if one.stem == config.removesuffix(".yaml")]
    if included:
        return included[0]
    raise ConfigError(
        f"{source}: no configuration file {config} in {folder}, and medseg includes none of that name",
        hint="medseg config list prints the included configurations.", path=path,
    )  # fmt: skip
