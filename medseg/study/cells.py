"""The cells of an ablation: combinations of settings, validated before the first training."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medseg.config.fields import walk_fields
from medseg.config.loading import check_overrides
from medseg.config.schema import RunConfig, load_config
from medseg.data.cases import join_problems
from medseg.errors import ConfigError, DataError
from medseg.files import check_exists, sha256_json
from medseg.training.dataset.preparation import dataset_folder

Design = Literal["grid", "one_at_a_time"]
"""``grid``: every combination of the values; ``one_at_a_time``: each value alone, the others as given."""

Grid = Mapping[str, Sequence[Any]]
"""Dotted key of a setting → its values."""

BASELINE = "baseline"

_LONGEST_FOLDER = 60


@dataclass(frozen=True)
class Cell:
    """One combination of settings.

    Attributes:
        name: the settings that differ from the baseline, such as ``train.ema=0.98``; ``baseline`` for none.
        changes: dotted key → value of these settings.
        config: all settings.
        digest: SHA-256 of the settings that influence the result, without the seed.
    """

    name: str
    changes: Mapping[str, Any]
    config: RunConfig
    digest: str

    @property
    def folder(self) -> str:
        """Name of the folder of the cell: its name in plain characters, and the start of its digest."""
        plain = re.sub(r"[^\w.=-]+", "-", self.name).strip("-")[:_LONGEST_FOLDER]
        return f"{plain}-{self.digest[:8]}"


def parse_grid(settings: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Parse settings of the form ``key=[value, …]``.

    Raises:
        ConfigError: if one is not of this form, or a key appears twice.

    Example:
        >>> parse_grid(["train.ema=[0, 0.98]", "loss.name=[dice, ce]"])
        {'train.ema': (0, 0.98), 'loss.name': ('dice', 'ce')}
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        try:
            values: Any = YAML(typ="safe", pure=True).load(text) if equals else None  # pyright: ignore[reportUnknownMemberType]
        except YAMLError as error:
            raise ConfigError(f"setting {setting!r}: the values are not valid YAML") from error
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"setting {setting!r}: expected key=[value, …]",
                hint="For example train.ema=[0, 0.98]. Set a single value for all runs with --set.",
            )
        if key in grid:
            raise ConfigError(f"setting {key} appears twice", hint=f"List all values once: {key}=[…].")
        grid[key] = tuple(cast(list[Any], values))
    return grid


def plan_cells(
    source: Path | str | Mapping[str, Any], grid: Grid, overrides: Sequence[str] = (), design: Design = "grid"
) -> list[Cell]:
    """Return the baseline and the other cells of an ablation; equal settings are one cell.

    Args:
        source: configuration file or settings of the baseline.
        grid: the settings that are varied.
        overrides: settings of all cells, ``key=value``.
        design: how values are combined.

    Raises:
        ConfigError: if the settings of a cell are invalid; the message names the cell.
    """
    check_overrides(overrides)
    cells: dict[str, Cell] = {}
    for changes in ({}, *_combinations(grid, design)):
        config = _load_cell(source, overrides, changes)
        digest = settings_digest(config)
        if digest not in cells:
            cells[digest] = Cell(_name(changes), changes, config, digest)
    return list(cells.values())


def check_datasets(configs: Iterable[RunConfig]) -> None:
    """Check that the datasets of some settings exist.

    Raises:
        ConfigError: if ``data.path`` is not set.
        DataError: that lists those that do not exist.
    """
    missing: list[str] = []
    for path in dict.fromkeys(dataset_folder(config.data) for config in configs):
        try:
            check_exists(path)
        except DataError as error:
            missing.append(error.message)
    if missing:
        raise DataError(
            f"data.path: {missing[0]}" if len(missing) == 1 else join_problems("datasets are missing", missing),
            hint="Correct data.path: --data, or the path of the dataset in a study file.",
        )


def settings_digest(config: RunConfig) -> str:
    """Return the SHA-256 of the settings that influence the result, without the seed."""
    settings = config.model_dump(mode="json", exclude={"seed"})
    for field in walk_fields(RunConfig):
        if field.traits.resume_safe and field.dotted != "data.path":
            _remove(settings, field.keys)
    return sha256_json(settings)


def describe_value(value: Any) -> str:
    """Describe the value of a setting on one line.

    Example:
        >>> describe_value({"name": "focal", "gamma": 1.0})
        'focal(gamma=1.0)'
    """
    if isinstance(value, Mapping):
        block = dict(cast(Mapping[str, Any], value))
        name = block.pop("name", "")
        inner = ", ".join(f"{key}={describe_value(below)}" for key, below in block.items())
        return f"{name}({inner})" if inner else str(name)
    if isinstance(value, list | tuple):
        return f"[{', '.join(describe_value(item) for item in cast(Sequence[Any], value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _combinations(grid: Grid, design: Design) -> Iterator[dict[str, Any]]:
    if design == "one_at_a_time":
        yield from ({key: value} for key, values in grid.items() for value in values)
    else:
        yield from (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))


def _load_cell(
    source: Path | str | Mapping[str, Any], overrides: Sequence[str], changes: Mapping[str, Any]
) -> RunConfig:
    try:
        return load_config(
            source, [*overrides, *(format_override(key, value) for key, value in changes.items())]
        )
    except ConfigError as error:
        if not changes:
            raise
        raise ConfigError(f"cell {_name(changes)}: {error.message}", hint=error.hint) from error


def format_override(key: str, value: Any) -> str:
    """Format a setting as an override; text that YAML reads as itself is not quoted, so that paths work.

    Example:
        >>> format_override("loss.name", "dice"), format_override("train.ema", 0.98)
        ('loss.name=dice', 'train.ema=0.98')
    """
    if isinstance(value, str):
        try:
            if YAML(typ="safe", pure=True).load(value) == value:  # pyright: ignore[reportUnknownMemberType]
                return f"{key}={value}"
        except YAMLError:
            pass
    return f"{key}={json.dumps(value)}"


def _name(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={describe_value(value)}" for key, value in changes.items()) or BASELINE


def _remove(settings: dict[str, Any], keys: Sequence[str]) -> None:
    node: Any = settings
    for key in keys[:-1]:
        node = cast(dict[str, Any], node).get(key) if isinstance(node, dict) else None
    if isinstance(node, dict):
        cast(dict[str, Any], node).pop(keys[-1], None)
