"""``medseg plan``: plan the settings of a training."""

from __future__ import annotations

import re
from pathlib import Path

import click

from medseg.cli.options import DURATION, OUTPUT, PATH, debug_option, device_option
from medseg.errors import ConfigError


@click.command()
@click.argument("data", type=PATH)
@click.argument("overrides", nargs=-1)
@click.option("--output", "-o", type=OUTPUT, help="Configuration file to write.  [default: print]")
@click.option(
    "--budget", type=DURATION,
    help="Time of the whole training, such as 20min or 2h.  [default: epochs for about 20 minutes on a CPU, 2 "
    "hours on a GPU]",
)  # fmt: skip
@device_option
@click.option(
    "--gpu-memory", metavar="SIZE", help="Memory to fill on a GPU, such as 8GB.  [default: 90% of the GPU's]"
)
@click.option(
    "--dims", type=click.Choice(["2", "3"]),
    help="2: slices, 3: volumes.  [default: 3, or 2 where slices are too thick]",
)  # fmt: skip
@click.option(
    "--cascade", is_flag=True,
    help="Volumes: a first stage at low resolution, whose segmentation a second stage refines.",
)  # fmt: skip
@debug_option
def plan(
    data: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    budget: float | None,
    device: str,
    gpu_memory: str | None,
    dims: str | None,
    cascade: bool,
) -> None:
    """Plan the settings of a training: measure cases and machine, write a configuration file with reasons.

    DATA is a folder of cases. OVERRIDES are settings such as train.batch_size=4; they are applied last.
    """
    from medseg.files import check_exists
    from medseg.planning.plan import PlanRequest, plan_dataset
    from medseg.planning.plan_file import check_plan_target, format_plan, write_plan

    check_exists(data)
    if output is not None:
        check_plan_target(output)
    request = PlanRequest(
        minutes=budget,
        device=device,
        gpu_memory_gb=None if gpu_memory is None else _gigabytes(gpu_memory),
        dims=None if dims is None else (2 if dims == "2" else 3),
        cascade=cascade,
    )
    planned = plan_dataset(data, overrides, request)
    text = format_plan(planned.config, planned.reasons, planned.header)
    if output is None:
        click.echo(text, nl=False)
        return
    write_plan(output, text)
    for paragraph in planned.header:
        click.echo(paragraph)
    click.echo(f"written: {output}")
    click.echo(f"next: medseg train {output}")


def _gigabytes(size: str) -> float:
    """Return a size such as ``8GB``, ``8`` or ``8000MB`` in GB."""
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GB|G|MB|M)?", size.strip(), re.IGNORECASE)
    if matched is None or float(matched[1]) == 0:
        raise ConfigError(f"--gpu-memory {size!r}: expected a size such as 8GB")
    return float(matched[1]) / (1000 if (matched[2] or "G").upper().startswith("M") else 1)
