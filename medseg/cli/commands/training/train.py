"""``medseg train``: train a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from medseg.cli.commands.config import find_source
from medseg.cli.options import DURATION, PATH, debug_option, network_option
from medseg.system.processes.launch import Launch

if TYPE_CHECKING:
    from medseg.config.schema import RunConfig
    from medseg.planning.measured.dry_run import Estimate
    from medseg.planning.measured.lr_finder import RangeTest
    from medseg.training.run_folder.layout import RunFolder

_SHORT = 5
"""Minutes of the short training that a dry run suggests."""
_UPDATE_SHARE = 0.8
"""Share of a time budget that is left for updates."""


@click.command()
@click.argument("source", type=PATH)
@click.argument("overrides", nargs=-1)
@click.option("--run", "--run-folder", "run_folder", type=PATH, help="Run folder.  [default: runs/NAME]")
@click.option(
    "--resume", type=click.Choice(["never", "auto"]), default="never", show_default=True,
    help="auto: continue the run in --run exactly where it stopped, or start it. Exits with 3 if the cases "
    "changed since it began.",
)  # fmt: skip
@click.option(
    "--accept-new-cases", is_flag=True,
    help="With --resume auto: continue although cases were added, changed or removed. Known cases keep their "
    "part of the split; new ones are used for training.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, help="Run one update and one validation case; estimate memory and time."
)
@click.option(
    "--find-lr", is_flag=True,
    help="Train for 100 updates with a growing learning rate and print a suggestion (Smith 2017).",
)  # fmt: skip
@network_option("Train a network of your own.")
@click.option(
    "--loss", metavar="MODULE:FUNCTION", help="Use a loss of your own: a function of logits and target."
)
@click.option(
    "--budget", type=DURATION,
    help="Time that the whole command may take, for example 20min: planning, training, validation, writing the "
    "model file. Sets train.budget.",
)  # fmt: skip
@debug_option
def train(
    source: Path,
    overrides: tuple[str, ...],
    run_folder: Path | None,
    resume: Literal["never", "auto"],
    accept_new_cases: bool,
    dry_run: bool,
    find_lr: bool,
    network: str | None,
    loss: str | None,
    budget: float | None,
) -> None:
    """Train a network.

    SOURCE is a configuration file, the name of an included one (medseg config list), or a dataset folder, for
    which settings are chosen. OVERRIDES are settings such as train.epochs=50.
    """
    from medseg.cli.user_code import load_extensions
    from medseg.planning.measured.dry_run import dry_run as estimate_training
    from medseg.planning.measured.lr_finder import find_learning_rate
    from medseg.progress import ConsoleProgress, plural
    from medseg.training.fit import fit
    from medseg.training.pacing.budget_clock import TimeBudget
    from medseg.training.run_folder.layout import RunFolder

    source = find_source(source)
    folder = run_folder or Path("runs") / (source.resolve().name if source.is_dir() else source.stem)
    if budget is not None:
        overrides = (*overrides, f"train.budget={budget}")
    own = load_extensions(network, loss)
    started, launch = RunFolder(folder), Launch.of_this_process()
    _check_launch(launch, "--dry-run" if dry_run else "--find-lr" if find_lr else None, source)
    if launch.is_first:  # before a plan is computed and printed
        started.check_start(resume=resume == "auto" or dry_run or find_lr)
    config = _load_or_plan(source, overrides, started if resume == "auto" else None)
    if dry_run:
        _print_estimate(estimate_training(config, folder, **own), config)
        return
    with ConsoleProgress() as progress:
        if find_lr:
            _print_range_test(find_learning_rate(config, folder, progress=progress, **own))
            return
        result = fit(
            config, folder, resume=resume, accept_new_cases=accept_new_cases, progress=progress,
            budget=TimeBudget.of_command(config.train.budget) if config.train.budget is not None else None,
            **own,
        )  # fmt: skip
    if not launch.is_first:
        return
    score = f", best {config.train.monitor} {result.best:.4f}" if result.best is not None else ""
    click.echo(f"{plural(result.epochs, 'epoch')}{score}")
    click.echo(f"model: {result.model}")


def _check_launch(launch: Launch, estimate: str | None, source: Path) -> None:
    """Check that several processes can run the command."""
    if launch.size > 1 and (estimate is not None or source.is_dir()):
        from medseg.errors import ConfigError

        hint = "Run it without torchrun."
        if estimate is None:
            hint = f"Write a configuration file first: medseg plan {source} -o config.yaml. Then train with it."
        what = estimate or f"choosing settings for {source}"
        raise ConfigError(f"{what} is for a single process, not for {launch.size} of torchrun", hint=hint)


def _load_or_plan(source: Path, overrides: tuple[str, ...], resumed: RunFolder | None) -> RunConfig:
    """Load the settings of a file, or choose them for a dataset folder and print the most important ones.

    Args:
        source: the file or the folder.
        overrides: ``key.sub=value`` settings.
        resumed: a run to resume: its settings are kept, because a plan depends on the state of the machine.
    """
    from medseg.config.schema import load_config
    from medseg.planning.describe import describe_settings
    from medseg.planning.plan import PlanRequest, plan_config

    if not source.is_dir():
        return load_config(source, overrides)
    if resumed is not None and resumed.config.exists():
        return load_config(resumed.config, [f"data.path={source.resolve()}", *overrides])
    declared = load_config({}, [one for one in overrides if one.lstrip().startswith("train.budget")])
    config = plan_config(source, overrides, PlanRequest(minutes=declared.train.budget))
    click.echo(f"settings chosen for {source}:", err=True)
    for line in describe_settings(config):
        click.echo(f"  {line}", err=True)
    click.echo(f"config.yaml in the run folder has all settings, medseg plan {source} their reasons", err=True)
    return config


def _print_range_test(test: RangeTest) -> None:
    every = max(1, len(test.rates) // 20)
    for rate, loss in list(zip(test.rates, test.losses, strict=True))[::every]:
        click.echo(f"learning rate {rate:.1e}  loss {loss:.4f}")
    click.echo(f"suggestion: train.optimizer.lr={test.suggestion:.1e}")


def _print_estimate(estimate: Estimate, config: RunConfig) -> None:
    from medseg.progress import duration

    click.echo(f"parameters              {estimate.parameters:,}")
    click.echo(f"loss of first update    {estimate.loss:.4f}")
    click.echo(f"seconds per update      {estimate.seconds_per_update:.3f}")
    click.echo(f"seconds per validation  {estimate.seconds_per_validation:.1f}")
    click.echo(f"peak memory             {estimate.peak_memory_gb:.2f} GB")
    click.echo(f"whole training          about {60 * estimate.hours:.1f} minutes")
    preparing = f", about {duration(estimate.preparation_seconds)}" if estimate.preparation_seconds > 1 else ""
    click.echo(f"the first start also prepares the cases{preparing}")
    if config.train.budget is None:
        updates = max(1, round(_SHORT * 60 * _UPDATE_SHARE / estimate.seconds_per_update))
        click.echo(f"for {_SHORT} minutes: --budget {_SHORT}min (about {updates:,} updates)")
    click.echo("assumptions:")
    for line in estimate.assumed:
        click.echo(f"  {line}")
