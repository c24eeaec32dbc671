"""Validation of a search space against the schema of the settings, before the first trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from medseg.config.fields import alternatives, walk_fields
from medseg.config.schema import RunConfig
from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError
from medseg.study.cells import describe_value
from medseg.study.sweep.search_space.options import Domain
from medseg.study.sweep.search_space.space import SearchSpace, Setting, describe_changes

_MOST_CORNERS = 300
"""Combinations of values that are validated; each takes about 5 ms."""
_MOST_REASONS = 5
"""Reasons for which combinations are refused that an error names."""
_FIXED = {
    "base": "give the configuration with its base instead",
    "data": "the trials are compared on the same cases and labels",
    "seed": "the split of the cases depends on it",
    "train.monitor": "the objective of the sweep selects the weights",
}
"""Settings, or blocks of them, that must be equal in all trials, and why."""


def build_space(domains: Mapping[str, Domain], source: Mapping[str, Any]) -> SearchSpace:
    """Return the search space with resolved types, after validating it.

    Every end of a range and every choice is validated, alone and in combination with those of the other
    settings (up to 300 combinations).

    Args:
        domains: dotted key of a setting → its values.
        source: all settings of the baseline.

    Raises:
        ConfigError: one error that lists every wrong setting, and the first combination of the others that the
            schema refuses for each reason.
    """
    wrong = {key: list(_check_domain(key, domain, domains)) for key, domain in domains.items()}
    problems = [f"{key}: {problem}" for key, found in wrong.items() for problem in found]
    space = resolve_space({key: domain for key, domain in domains.items() if not wrong[key]}, source)
    found = {setting.key: _check_values(space, setting) for setting in space.settings}
    problems += [problem for own in found.values() for problem in own]
    valid = SearchSpace(source, tuple(setting for setting in space.settings if not found[setting.key]))
    combinations = _check_combinations(valid)
    if problems or combinations:
        lines = [*problems, *combinations]
        kind = "things" if combinations else "settings"
        several = f"{len(lines)} {kind} are wrong:\n  " if len(lines) > 1 else ""
        hint = "Change the ranges or choices, or give a setting the condition when." if combinations else None
        raise ConfigError(f"the search space: {several}" + "\n  ".join(lines), hint=hint)
    return space


def check_objectives(objectives: Sequence[str], labels: LabelSchema) -> None:
    """Check that the labels of objectives exist.

    Raises:
        ConfigError: that names those that do not.
    """
    unknown = [one for one in objectives if ":" in one and one.partition(":")[2] not in labels.evaluated]
    if unknown:
        raise ConfigError(
            f"objectives: {', '.join(unknown)}: no such label in the dataset; expected one of "
            f"{', '.join(labels.evaluated)}"
        )


def resolve_space(domains: Mapping[str, Domain], source: Mapping[str, Any]) -> SearchSpace:
    """Return the search space with resolved types, without validating it; arguments as of ``build_space``."""
    settings: list[Setting] = []
    for key, domain in domains.items():
        when = {
            other: _as_values(wanted, domains[other]) if other in domains else [wanted]
            for other, wanted in domain.when.items()
        }
        settings.append(Setting(key, domain.model_copy(update={"when": when}), _kind(key, domain)))
    return SearchSpace(source, tuple(settings))


def _check_domain(key: str, domain: Domain, domains: Mapping[str, Domain]) -> Iterator[str]:
    """Yield what is wrong with a domain in itself."""
    for fixed, reason in _FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            yield f"cannot be varied: {reason}"
            return
    above = [one for one in domains if key.startswith(f"{one}.")]
    if above and not set(above) <= domain.when.keys():
        yield f"is part of {above[0]}, which is varied too; add when: {{{above[0]}: …}}"
    if domain.choices is None:
        yield from _check_type(key, domain)
    else:
        repeated = [name for name in dict.fromkeys(domain.names) if domain.names.count(name) > 1]
        if repeated:
            yield f"the choice {repeated[0]} appears twice"
    before = list(domains)[: list(domains).index(key)]
    for other, wanted in domain.when.items():
        if other not in before:
            yield f"when names {other}, which is not a setting of the space before this one"
        elif domains[other].choices is not None:
            values = _as_values(wanted, domains[other])
            yield from (
                f"when names {describe_value(one)}, which is no choice of {other}"
                for one in values
                if one not in domains[other].values
            )


def _check_type(key: str, domain: Domain) -> Iterator[str]:
    """Yield why a range does not match the type of its setting."""
    types = _number_types(key)
    if types is None:
        return  # an unknown key, which the schema explains better
    if not types:
        yield "is not a number, so that it cannot have a range; list its choices"
    elif _kind(key, domain) == "int":
        for name, value in (("low", domain.low), ("high", domain.high), ("step", domain.step)):
            if value is not None and value != int(value):
                yield f"{name} is {value:g}, expected an integer"


def _number_types(key: str) -> set[type] | None:
    """Return the types of numbers that a setting accepts; None if there is no such setting."""
    fields = [field for field in walk_fields(RunConfig) if field.dotted == key]
    if not fields:
        return None
    return {one for field in fields for one in alternatives(field.annotation) if one in (int, float)}


def _kind(key: str, domain: Domain) -> Literal["int", "float", "choice"]:
    if domain.choices is not None:
        return "choice"
    types = _number_types(key) or {float}
    return domain.type or ("float" if float in types else "int")


def _as_values(wanted: Any, domain: Domain) -> list[Any]:
    """Return the values that a condition allows, for their names or values."""
    listed: list[Any] = wanted if isinstance(wanted, list) and wanted not in domain.values else [wanted]
    if not isinstance(domain.choices, dict):
        return listed
    return [domain.choices.get(one, one) if isinstance(one, str) else one for one in listed]


def _check_values(space: SearchSpace, setting: Setting) -> list[str]:
    """Return what the schema says about the values of a setting, with the first values of those it needs."""
    context: dict[str, Any] = {}
    for one in space.settings:
        if one.key in setting.domain.when:
            wanted = setting.domain.when[one.key]
            context[one.key] = next((value for value in one.ends if value in wanted), one.ends[0])
    problems: dict[str, None] = {}
    for value in setting.ends:
        try:
            space.config({**context, setting.key: value})
        except ConfigError as error:
            reason = _reason(error)
            named = (
                reason if reason.startswith(setting.key) else f"{setting.key}={describe_value(value)}: {reason}"
            )
            problems[named] = None
    unknown = [one for one in problems if "unknown setting" in one]
    return unknown[:1] or list(problems)


def _check_combinations(space: SearchSpace) -> list[str]:
    """Return the first combination of values that the schema refuses for each reason."""
    problems: dict[str, str] = {}
    for changes in space.corners(_MOST_CORNERS):
        try:
            space.config(changes)
        except ConfigError as error:
            problems.setdefault(_reason(error), describe_changes(changes))
    lines = [f"{changes}: {reason}" for reason, changes in problems.items()]
    return lines[:_MOST_REASONS]


def _reason(error: ConfigError) -> str:
    """Return the message of the schema without the name of the file."""
    return error.message.partition(": ")[2] or error.message
