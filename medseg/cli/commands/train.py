"""``medseg train``: train a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from medseg.cli.commands.config import find_config
from medseg.cli.options import PATH, debug_option
from medseg.system.allocator import wait_without_spinning

if TYPE_CHECKING:
    from medseg.config.schema import RunConfig
    from medseg.planning.dry_run import Estimate


@click.command()
@click.argument("source", type=PATH)
@click.argument("overrides", nargs=-1)
@click.option("--run", "run_folder", type=PATH, help="Run folder.  [default: runs/NAME]")
@click.option(
    "--resume", type=click.Choice(["never", "auto"]), default="never", show_default=True,
    help="auto: continue the run in --run exactly where it stopped, or start it.",
)  # fmt: skip
@click.option(
    "--accept-new-cases", is_flag=True,
    help="With --resume auto: continue although cases were added, changed or removed. Known cases keep their "
    "part of the split; new ones are used for training.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, help="Run one update and one validation case; estimate memory and time."
)
@debug_option
def train(
    source: Path,
    overrides: tuple[str, ...],
    run_folder: Path | None,
    resume: Literal["never", "auto"],
    accept_new_cases: bool,
    dry_run: bool,
) -> None:
    """Train a network.

    SOURCE is a configuration file, the name of an included one (medseg config list), or a dataset folder, for
    which settings are chosen and printed. OVERRIDES are settings such as train.epochs=50.
    """
    wait_without_spinning()
    from medseg.planning.dry_run import dry_run as estimate_training
    from medseg.progress import ConsoleProgress
    from medseg.training.fit import fit

    config = _load_or_plan(source, overrides)
    folder = run_folder or Path("runs") / (source.resolve().name if source.is_dir() else source.stem)
    if dry_run:
        _print_estimate(estimate_training(config, folder))
        return
    with ConsoleProgress() as progress:
        result = fit(config, folder, resume=resume, accept_new_cases=accept_new_cases, progress=progress)
    score = f", best {config.train.monitor} {result.best:.4f}" if result.best is not None else ""
    click.echo(f"{result.epochs} epochs{score}")
    click.echo(f"model: {result.model}")


def _load_or_plan(source: Path, overrides: tuple[str, ...]) -> RunConfig:
    """Load the settings of a file, or choose them for a dataset folder and print them."""
    from medseg.config.schema import load_config, to_yaml
    from medseg.planning.plan import plan_config

    if not source.is_dir():
        return load_config(find_config(source), overrides)
    config = plan_config(source, overrides)
    click.echo(f"# settings chosen for {source}\n{to_yaml(config)}", err=True)
    return config


def _print_estimate(estimate: Estimate) -> None:
    click.echo(f"parameters              {estimate.parameters:,}")
    click.echo(f"loss of first update    {estimate.loss:.4f}")
    click.echo(f"seconds per update      {estimate.seconds_per_update:.3f}")
    click.echo(f"seconds per validation  {estimate.seconds_per_validation:.1f}")
    click.echo(f"peak memory             {estimate.peak_memory_gb:.2f} GB")
    click.echo(f"whole training          about {60 * estimate.hours:.1f} minutes")
    click.echo("assumptions:")
    for line in estimate.assumed:
        click.echo(f"  {line}")
