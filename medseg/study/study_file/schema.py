"""``StudyConfig``: a study as a file: configurations, datasets, seeds, folds, and comparisons at the end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from medseg.config.base import Spec
from medseg.config.duration import Minutes
from medseg.errors import ConfigError
from medseg.evaluation.comparison import ComparisonOptions
from medseg.evaluation.comparison.options import resolve_metric
from medseg.study.executors.options import ExecutorConfig, LocalConfig

_NAME = re.compile(r"\w[\w.=+-]*")

Settings = dict[str, Any]
"""Dotted key of a setting → its value."""


class ConfigEntry(Spec):
    """A configuration of a study.

    Attributes:
        config: configuration file, relative to the study's, or the name of an included one.
        set: settings that differ, by dotted key.
    """

    config: str
    set: Settings = Field(default_factory=dict[str, Any])


class DatasetEntry(Spec):
    """A dataset of a study.

    Attributes:
        path: folder of cases, relative to the study's file.
        set: settings of its runs, by dotted key.
    """

    path: Path
    set: Settings = Field(default_factory=dict[str, Any])


class ComparisonEntry(Spec):
    """A comparison of configurations on each dataset, as by ``medseg compare``.

    Attributes:
        name: name of its folder.
        configs: the configurations; if empty, all.
        metric: column of the scores, such as ``dice`` or ``hd95``.
        also: further metrics, without adjustment of the tests.
        baseline: the configuration that the others are compared with; if None, all pairs are compared.
        margin: largest loss of the mean that is not inferior.
    """

    name: str = "all"
    configs: tuple[str, ...] = ()
    metric: str = "dice"
    also: tuple[str, ...] = ()
    baseline: str | None = None
    margin: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _check_configs(self) -> Self:
        configs = list(self.configs)
        if configs and len(set(configs)) < max(2, len(configs)):
            raise ValueError(f"configs are {configs}, expected two or more different ones")
        for name in (self.metric, *self.also):
            try:
                resolve_metric(name)
            except ConfigError as error:
                raise ValueError(
                    f"{error.message}; expected a column of cases.csv such as dice or hd95"
                ) from error
        if configs and self.baseline is not None and self.baseline not in configs:
            raise ValueError(f"baseline {self.baseline}: none of the compared configs {configs}")
        return self

    def options(self, part: Literal["test", "val"]) -> ComparisonOptions:
        """Return the options of the comparison."""
        return ComparisonOptions(
            metric=self.metric, also=self.also, baseline=self.baseline, margin=self.margin, part=part
        )


class StudyConfig(Spec):
    """A study: every configuration is trained on every dataset with every seed and fold.

    Attributes:
        configs: name → configuration, or the settings of one.
        datasets: name → dataset. If empty, every configuration has its own ``data.path``.
        seeds: seeds of the trainings; the split does not depend on them.
        folds: number of folds of a cross-validation, whose held-out cases are compared. If None, the split of
            the configurations, and the cases of ``cases``. With folds, ``train.checkpoint`` is ``last`` unless
            it is set, so that the held-out cases do not select the weights.
        set: settings of all runs, by dotted key. Those of a dataset are set over them, then those of a
            configuration.
        budget: time of each training; sets ``train.budget``.
        cases: part of the split that is compared.
        comparisons: made at the end, on each dataset.
        executor: what runs the trainings.

    Example:
        >>> study = StudyConfig.model_validate({"configs": {"a": "hippocampus_unet3d"}, "seeds": [0, 1]})
        >>> study.configs["a"].config, study.comparisons[0].metric
        ('hippocampus_unet3d', 'dice')
    """

    configs: Annotated[dict[str, ConfigEntry], Field(min_length=1)]
    datasets: dict[str, DatasetEntry] = Field(default_factory=dict[str, DatasetEntry])
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    folds: Annotated[int, Field(ge=2)] | None = None
    set: Settings = Field(default_factory=dict[str, Any])
    budget: Minutes | None = None
    cases: Literal["test", "val"] = "test"
    comparisons: tuple[ComparisonEntry, ...] = (ComparisonEntry(),)
    executor: ExecutorConfig = LocalConfig()

    @field_validator("configs", mode="before")
    @classmethod
    def _expand_configs(cls, value: Any) -> Any:
        return _expand(value, "config")

    @field_validator("datasets", mode="before")
    @classmethod
    def _expand_datasets(cls, value: Any) -> Any:
        return _expand(value, "path")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [*self.configs, *self.datasets, *(one.name for one in self.comparisons)]
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} becomes the name of a folder: use letters, digits and ._=+-")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are {list(self.seeds)}, expected different numbers")
        if len({one.name for one in self.comparisons}) < len(self.comparisons):
            raise ValueError("comparisons: two have the same name")
        if self.folds is not None and "cases" in self.model_fields_set and self.cases == "test":
            raise ValueError("folds: the held-out cases are compared; leave out cases, or leave out folds")
        settings = [self.set, *(one.set for one in (*self.configs.values(), *self.datasets.values()))]
        if any("seed" in one for one in settings):
            raise ValueError("set: seed is set by seeds, expected seeds: [0, 1] at the top of the file")
        for one in self.comparisons:
            named = [*one.configs, *([one.baseline] if one.baseline else [])]
            unknown = [name for name in named if name not in self.configs]
            if unknown:
                raise ValueError(
                    f"comparisons: no configuration {unknown[0]!r}; known: {', '.join(self.configs)}"
                )
        return self

    @property
    def part(self) -> Literal["test", "val"]:
        """The part of the split that is compared: with folds, the held-out cases."""
        return "val" if self.folds is not None else self.cases


def _expand(value: Any, key: str) -> Any:
    """Write entries that are only a path in full."""
    if not isinstance(value, Mapping):
        return value
    entries = cast(Mapping[str, Any], value)
    return {name: {key: entry} if isinstance(entry, str | Path) else entry for name, entry in entries.items()}
