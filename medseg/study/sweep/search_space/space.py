"""The search space of a sweep with resolved types: draws of trials, and the settings that result."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any, Literal, Protocol

from medseg.config.schema import RunConfig, load_config
from medseg.errors import ConfigError
from medseg.study.cells import describe_value, format_override
from medseg.study.sweep.search_space.options import Domain

Changes = dict[str, Any]
"""Dotted key of a setting → its value, in the order of the space."""

_LONGEST = 40
"""Characters of the description of a value that is no choice."""
_DIGITS = 4
"""Significant digits of a number that is drawn from a continuous range."""


class Suggest(Protocol):
    """What draws the values of a trial; an Optuna trial is one."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Draw a number."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Draw an integer."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """Draw a choice."""
        ...


@dataclass(frozen=True)
class Setting:
    """One setting of a search space.

    Attributes:
        key: its dotted key.
        domain: its values.
        kind: ``int``, ``float`` or ``choice``.
    """

    key: str
    domain: Domain
    kind: Literal["int", "float", "choice"]

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are validated before the first trial: both ends of a range, or all choices."""
        if self.kind == "choice":
            return self.domain.values
        return self.tidy(_number(self.domain.low)), self.tidy(_number(self.domain.high))

    def describe(self) -> str:
        """Describe the values on one line, such as ``0.001 to 0.1 (logarithmic)``."""
        domain = self.domain
        if domain.choices is not None:
            return ", ".join(domain.names)
        more = " (logarithmic)" if domain.log else f" in steps of {domain.step:g}" if domain.step else ""
        return f"{domain.low:g} to {domain.high:g}{more}"

    def applies(self, changes: Mapping[str, Any]) -> bool:
        """Return whether the setting is varied in a trial with these values of the settings before it."""
        return all(key in changes and changes[key] in wanted for key, wanted in self.domain.when.items())

    def suggest(self, trial: Suggest) -> Any:
        """Draw the value for a trial."""
        domain = self.domain
        if self.kind == "choice":
            return self.choice(trial.suggest_categorical(self.key, domain.names))
        low, high = _number(domain.low), _number(domain.high)
        if self.kind == "int":
            step = int(domain.step or 1)
            return trial.suggest_int(self.key, int(low), int(high), step=step, log=domain.log)
        return self.tidy(trial.suggest_float(self.key, low, high, step=domain.step, log=domain.log))

    def choice(self, name: str) -> Any:
        """Return the choice of a name."""
        return self.domain.values[self.domain.names.index(name)]

    def tidy(self, value: float) -> float | int:
        """Return a value of the range as it appears in the settings: with four significant digits."""
        if self.kind == "int":
            return int(value)
        low, high = _number(self.domain.low), _number(self.domain.high)
        return min(max(float(f"{value:.{_DIGITS}g}"), low), high)

    def fixed(self, value: Any) -> Any:
        """Return the record of a value in the journal; None if the value is not in the space."""
        domain = self.domain
        if domain.choices is not None:
            return domain.names[domain.values.index(value)] if value in domain.values else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        low, high, step = _number(domain.low), _number(domain.high), domain.step
        on_step = step is None or abs((value - low) / step - round((value - low) / step)) < 1e-9
        return value if low <= value <= high and on_step else None


@dataclass(frozen=True)
class SearchSpace:
    """The settings that the trials of a sweep vary, and the configuration of which they are varied.

    Attributes:
        source: all settings of the baseline.
        settings: the varied settings.
    """

    source: Mapping[str, Any]
    settings: tuple[Setting, ...]

    def suggest(self, trial: Suggest) -> Changes:
        """Draw the values of a trial."""
        changes: Changes = {}
        for setting in self.settings:
            if setting.applies(changes):
                changes[setting.key] = setting.suggest(trial)
        return changes

    def config(self, changes: Mapping[str, Any]) -> RunConfig:
        """Return the settings of a trial.

        Raises:
            ConfigError: if they are invalid together.
        """
        overrides = [format_override(key, value) for key, value in changes.items()]
        return load_config(self.source, overrides)

    def values(self, records: Mapping[str, Any]) -> Changes:
        """Return the values of settings for their records, in which choices have names."""
        return {
            one.key: one.choice(records[one.key]) if one.kind == "choice" else records[one.key]
            for one in self.settings
            if one.key in records
        }

    def records(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the records for values of settings: choices have names, other values are as they are."""
        return {one.key: one.fixed(changes[one.key]) for one in self.settings if one.key in changes}

    def baseline(self) -> dict[str, Any] | None:
        """Return the records of a trial with the values of the baseline; None if they are not in the space."""
        given = self.config({})
        changes: Changes = {}
        records: dict[str, Any] = {}
        for setting in self.settings:
            if setting.applies(changes):
                value = self._baseline_value(setting, given)
                records[setting.key] = setting.fixed(value)
                if records[setting.key] is None:
                    return None
                changes[setting.key] = value
        return records if self.config(changes) == given else None

    def describe_baseline(self) -> dict[str, str]:
        """Return the value of each setting in the baseline: a number, the name of a choice, or a short text."""
        given = self.config({})
        found: dict[str, str] = {}
        for setting in self.settings:
            value = self._baseline_value(setting, given)
            actual = read_setting(given, setting.key)
            record = None if value is None and actual is not None else setting.fixed(value)
            text = describe_value(actual if record is None else record)
            found[setting.key] = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
        return found

    def _baseline_value(self, setting: Setting, given: RunConfig) -> Any:
        """Return the value in the baseline; of choices, the one that gives the settings of the baseline."""
        if setting.domain.choices is None:
            return read_setting(given, setting.key)
        for choice in setting.domain.values:
            try:
                if self.config({setting.key: choice}) == given:
                    return choice
            except ConfigError:  # valid only together with another choice
                continue
        return None

    def corners(self, most: int) -> Iterator[Changes]:
        """Yield combinations of the ends of the ranges and the choices, without repetitions.

        These are all combinations if they are no more than ``most``. Otherwise they are those of every two
        settings, with the others at their first value, and then random ones.
        """
        everything = list(islice(self._corners({}), most + 1))
        if len(everything) <= most:
            yield from everything
            return
        seen: set[str] = set()
        for changes in islice(self._some_corners(most), 4 * most):
            name = describe_value(changes)
            if name not in seen and len(seen) < most:
                seen.add(name)
                yield changes

    def _corners(
        self, changes: Changes, index: int = 0, free: frozenset[str] | None = None
    ) -> Iterator[Changes]:
        """Yield the combinations of the settings from ``index`` on.

        Settings that are not in ``free`` have their first value.
        """
        if index == len(self.settings):
            yield changes
            return
        setting = self.settings[index]
        if not setting.applies(changes):
            yield from self._corners(changes, index + 1, free)
            return
        for value in setting.ends if free is None or setting.key in free else setting.ends[:1]:
            yield from self._corners({**changes, setting.key: value}, index + 1, free)

    def _some_corners(self, most: int) -> Iterator[Changes]:
        for pair in combinations([setting.key for setting in self.settings], 2):
            yield from self._corners({}, free=frozenset(pair))
        draw = random.Random(0)
        for _ in range(most):
            changes: Changes = {}
            for setting in self.settings:
                if setting.applies(changes):
                    changes[setting.key] = draw.choice(setting.ends)
            yield changes


def read_setting(config: RunConfig, key: str) -> Any:
    """Return the value at a dotted key; None if the settings have no such key."""
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def describe_changes(changes: Mapping[str, Any]) -> str:
    """Describe the settings of a trial on one line.

    Example:
        >>> describe_changes({"train.ema": 0.98, "loss": {"name": "dice"}})
        'train.ema=0.98, loss=dice'
    """
    return ", ".join(f"{key}={describe_value(value)}" for key, value in changes.items())


def _number(value: float | None) -> float:
    assert value is not None  # a domain has choices or both ends
    return value
