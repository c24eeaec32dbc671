"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from os import fsdecode
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
"""Type of arguments and options that are paths."""


class _Output(click.Path):
    """Path of a file or folder to write; refused before any work if it cannot be written."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        from medseg.files import check_writable

        path = Path(fsdecode(super().convert(value, param, ctx)))
        if ctx is None or not ctx.resilient_parsing:  # not while the shell completes a word
            check_writable(path)
        return path


OUTPUT = _Output(path_type=Path)
"""Type of arguments and options that are paths to write."""

POSITIVE = click.IntRange(min=1)
"""Type of counts."""

SEED = click.IntRange(min=0)
"""Type of seeds."""


class FiniteRange(click.FloatRange):
    """A range of numbers; NaN and infinity are refused, which ``click.FloatRange`` accepts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class _Duration(click.ParamType[float]):
    """A duration such as 90s, 20min or 2h, or a number of minutes."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the duration in minutes."""
        from medseg.config.duration import parse_minutes

        try:
            return parse_minutes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()
"""Type of durations, converted to minutes."""

debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
device_option = click.option(
    "--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N."
)
amp_option = click.option(
    "--amp", type=click.Choice(["auto", "bf16", "fp16", "off"]), default="auto", show_default=True,
    help="Precision. auto: bf16 if the device supports it, else float32; off: float32.",
)  # fmt: skip
weights_option = click.option("--weights", type=PATH, help="File with the weights of a published network.")


def network_option(purpose: str) -> Callable[[Command], Command]:
    """Return the option ``--network``.

    Args:
        purpose: what the network is for, in a sentence.
    """
    return click.option(
        "--network", metavar="MODULE:CLASS",
        help=f"{purpose} A class or function called with those of task, spatial_dims, in_channels, num_classes "
        "(or out_channels) that it takes. Modules in the working directory can be imported.",
    )  # fmt: skip


label_suffix_option = click.option(
    "--label-suffix", help="Suffix that label file names add to image names, for example _mask."
)
jobs_option = click.option(
    "--jobs",
    type=POSITIVE,
    help="Trainings that run at the same time; they divide cores and GPUs.  [default: 1]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
geometry_option = click.option(
    "--dicom-geometry", "uneven", type=click.Choice(["refuse", "resample"]), default="refuse",
    show_default=True, help="DICOM series with uneven or missing slices: refuse, or resample to an even grid.",
)  # fmt: skip


def all_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Combine options into one decorator; ``--help`` lists them in the given order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
