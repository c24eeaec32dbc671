"""``SweepConfig``: the settings that a sweep varies, what it optimizes, and how it draws and prunes trials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medseg.config.base import Spec
from medseg.config.errors import explain
from medseg.errors import ConfigError
from medseg.study.cells import describe_value

SECONDS = "seconds_per_case"
"""Objective: median time of the inference of a validation case."""

_SCORE = re.compile(r"(dice|iou|nsd|hd95)(:.+)?")
_PRUNABLE = ("dice", "iou")
"""Scores that the validations of a training compute."""


class Domain(Spec):
    """The values of one setting.

    Attributes:
        low, high: ends of a range, both included.
        log: whether the range is drawn on a logarithmic scale.
        step: distance between two values, from ``low`` on.
        type: ``int`` or ``float``; by default that of the setting.
        choices: the values instead of a range: numbers, text, lists or blocks of settings; a mapping gives them
            names.
        when: settings of the space, listed before this one, and the value (or name of a choice) that they need,
            or a list of them; otherwise this setting keeps its value.

    Example:
        >>> Domain(low=1e-4, high=1e-2, log=True).choices is None
        True
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = Field(default=None, gt=0)
    type: Literal["int", "float"] | None = None
    choices: dict[str, Any] | tuple[Any, ...] | None = Field(default=None, min_length=1)
    when: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _expand_list(cls, data: Any) -> Any:
        return {"choices": data} if isinstance(data, list | tuple) else data

    @property
    def values(self) -> tuple[Any, ...]:
        """The choices without their names; empty for a range."""
        return tuple(self.choices.values()) if isinstance(self.choices, dict) else self.choices or ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the choices, by default descriptions of their values."""
        return (
            tuple(self.choices) if isinstance(self.choices, dict) else tuple(map(describe_value, self.values))
        )

    @model_validator(mode="after")
    def _check(self) -> Domain:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise ValueError("has choices and a range; expected one of them")
            return self
        if self.low is None or self.high is None:
            raise ValueError("expected low and high, or choices")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; expected low below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low:g}; a logarithmic range begins above 0")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range has no step")
        if self.step is not None:
            steps = (self.high - self.low) / self.step
            if abs(steps - round(steps)) > 1e-9:
                raise ValueError(f"high is {self.high:g}; expected low plus a multiple of step ({self.step:g})")
        return self


class SweepConfig(Spec):
    """A search over settings.

    Attributes:
        space: dotted key of a setting → its values. A list is short for ``choices``.
        objectives: what is optimized, measured on the validation cases: ``dice``, ``iou``, ``nsd``, ``hd95``,
            one label of them (``dice:lesion``), ``seconds_per_case``. With several, the result is a Pareto
            front.
        sampler: ``tpe``, tree-structured Parzen estimators (Bergstra et al. 2011), or ``random``.
        pruner: ends trials that are worse than others after a validation: ``median`` (below the median of the
            others), ``hyperband`` (Li et al. 2018) or ``none``. If None, median for one objective that the
            training measures (``dice``, ``iou``), otherwise none.
        startup: complete trials before the median prunes.
        warmup: share of a training before which the median does not prune it.
        seed: of the draws of the trials; the seed of the trainings is that of the configuration.
        baseline: whether the first trial has the values of the configuration, if they are in the space.

    Example:
        >>> sweep = SweepConfig(space={"train.optimizer.lr": Domain(low=1e-4, high=1e-2, log=True)})
        >>> sweep.pruning
        'median'
    """

    space: dict[str, Domain] = Field(min_length=1)
    objectives: tuple[str, ...] = Field(default=("dice",), min_length=1)
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] | None = None
    startup: int = Field(default=5, ge=1)
    warmup: float = Field(default=0.25, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    baseline: bool = True

    @field_validator("objectives")
    @classmethod
    def _check_objectives(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [one for one in objectives if one != SECONDS and not _SCORE.fullmatch(one)]
        if wrong:
            named = f"{', '.join(map(repr, wrong))} {'is' if len(wrong) == 1 else 'are'}"
            raise ValueError(
                f"{named} not known; expected dice, iou, nsd, hd95, one label of them such as dice:lesion, or "
                f"{SECONDS}"
            )
        if len(set(objectives)) < len(objectives):
            raise ValueError("one appears twice")
        return objectives

    @model_validator(mode="after")
    def _check(self) -> SweepConfig:
        if self.pruner in ("median", "hyperband") and not self._prunable:
            raise ValueError(
                f"pruner: {self.pruner} needs one objective that a training measures (dice or iou), got "
                f"{', '.join(self.objectives)}; set pruner: none"
            )
        return self

    @property
    def _prunable(self) -> bool:
        return len(self.objectives) == 1 and self.objectives[0].partition(":")[0] in _PRUNABLE

    @property
    def pruning(self) -> Literal["median", "hyperband", "none"]:
        """The pruner, the default resolved."""
        return self.pruner or ("median" if self._prunable else "none")

    @property
    def maximized(self) -> tuple[bool, ...]:
        """For each objective, whether higher values are better."""
        return tuple(one != SECONDS and not one.startswith("hd95") for one in self.objectives)


def read_sweep(source: Path | str | Mapping[str, Any]) -> SweepConfig:
    """Read the description of a sweep.

    Args:
        source: a YAML file, or its content as nested mappings.

    Raises:
        ConfigError: if the file is missing or an entry is wrong.

    Example:
        >>> read_sweep({"space": {"train.ema": [0, 0.98]}}).space["train.ema"].choices
        (0, 0.98)
    """
    path = Path(source) if isinstance(source, str | Path) else None
    content = _read_yaml(path) if path is not None else dict(cast(Mapping[str, Any], source))
    where = str(path) if path is not None else "the search space"
    try:
        return SweepConfig.model_validate(content)
    except ValidationError as error:
        lines = explain(error, SweepConfig)
        several = f"{len(lines)} entries are wrong:\n  " if len(lines) > 1 else ""
        raise ConfigError(f"{where}: {several}" + "\n  ".join(lines), path=path) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file with a search space", path=path)
    try:
        text = path.read_text(encoding="utf-8")
        content: Any = YAML(typ="safe", pure=True).load(text)  # pyright: ignore[reportUnknownMemberType]
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}", path=path) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected a mapping with the key space", hint="See the guide on sweeps.", path=path
        )
    return cast(dict[str, Any], content)
