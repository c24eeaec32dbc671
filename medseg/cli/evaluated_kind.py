"""What ``medseg evaluate`` compares, and which options that kind of evaluation uses."""

from __future__ import annotations

import click
from click.core import ParameterSource

from medseg.errors import ConfigError

_ALWAYS = frozenset(
    {"predictions", "references", "output", "as_json", "debug", "objects", "panoptic", "interactive"}
)
_PROMPTS = frozenset(
    {"users", "baselines", "scribbles", "part", "interactions", "components", "most_objects", "seed"}
)
_FILES = frozenset(
    {"label_suffix", "prediction_suffix", "missing", "extra", "ignore_value", "images", "report"}
)
_USED = {
    "interactive": _ALWAYS | _PROMPTS | {"label_suffix", "report", "jobs"},
    "panoptic": _ALWAYS | {"missing", "extra", "report"},
    "objects": _ALWAYS | _FILES | {"jobs"},
}
"""Kind of evaluation → the parameters that it uses; label maps are compared with those of no kind."""


def check_evaluated_kind(context: click.Context) -> None:
    """Refuse options that the chosen kind of evaluation would ignore; ``GivenInteractive`` refuses its own.

    Args:
        context: of the command.

    Raises:
        ConfigError: an option has no effect, or two kinds exclude each other.
    """
    given = context.params
    kind = next((name for name in _USED if given.get(name)), None)
    if kind is None:
        return
    for other in ("panoptic", "objects"):
        if other != kind and given.get(other) and (kind, other) != ("interactive", "objects"):
            raise ConfigError(f"--{kind} and --{other} exclude each other", hint="Keep one of them.")
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in _USED[kind] | _PROMPTS or given.get(name) is False:
            continue
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            used = sorted(p.opts[0] for p in context.command.params if p.name in _USED[kind] - _ALWAYS)
            raise ConfigError(
                f"{parameter.opts[0]}: has no effect with --{kind}",
                hint=f"Leave it out. --{kind} uses {', '.join(used)}." if used else "Leave it out.",
            )
