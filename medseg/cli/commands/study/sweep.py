"""``medseg study sweep``: search for better settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.commands.config import find_config_file, with_data_and_budget
from medseg.cli.options import DURATION, PATH, POSITIVE, debug_option
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from medseg.study.sweep import SweepConfig
    from medseg.study.sweep.search_space.space import SearchSpace


@click.command()
@click.argument("config", type=PATH)
@click.argument("space", type=PATH)
@click.option(
    "--trials", type=POSITIVE, required=True, help="Trials of the study, those of earlier calls included."
)
@click.option("--output", type=PATH, help="Folder of the study.  [default: studies/CONFIG_SPACE]")
@click.option("--data", type=PATH, help="Folder of cases, as data.path.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Setting of all trials, such as train.epochs=20.",
)
@click.option("--budget", type=DURATION, help="Time of each training, such as 10min. Sets train.budget.")
@click.option(
    "--jobs", type=POSITIVE, default=1, show_default=True,
    help="Trials at the same time, each in a process with its share of the cores and its own GPU.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True,
    help="Check settings, search space, objectives and dataset; print the space, train nothing.",
)  # fmt: skip
@debug_option
def sweep(
    config: Path,
    space: Path,
    trials: int,
    output: Path | None,
    data: Path | None,
    overrides: tuple[str, ...],
    budget: float | None,
    jobs: int,
    dry_run: bool,
) -> int:
    """Search for better settings by trainings that are compared on the validation cases.

    CONFIG is a configuration file or the name of an included one. SPACE is a YAML file with the values of
    settings: space: {train.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}, train.ema: [0, 0.98]}.

    Writes trials.csv, best.yaml (complete settings for medseg train) and report.html. Started again, also in
    other processes or on other machines with the same --output, the command works on the same trials; those of
    killed processes are continued. The test cases are not read. Exits with 4 if a trial failed, with 3 if the
    dataset changed since a finished trial began.
    """
    from medseg.config.schema import load_config
    from medseg.files import check_writable
    from medseg.study.sweep import read_sweep, run_sweep
    from medseg.study.sweep.search_space.dry_run import check_sweep

    source = find_config_file(config)
    common = with_data_and_budget(overrides, data, budget)
    if dry_run:
        _print_space(*check_sweep(source, common, space))
        return EXIT_OK
    settings, searched = load_config(source, common), read_sweep(space)
    folder = output or Path("studies") / f"{source.stem}_{space.stem}"
    check_writable(folder)
    result = run_sweep(settings, searched, folder, trials=trials, jobs=jobs)
    click.echo(result.describe())
    if result.best is not None:
        click.echo(f"settings: {folder / 'best.yaml'}")
    click.echo(f"report: {folder / 'report.html'}")
    for trial in result.failed:
        click.echo(f"failed: trial {trial.number}: {trial.error}", err=True)
    return EXIT_SOME_FAILED if result.failed else EXIT_OK


def _print_space(sweep: SweepConfig, space: SearchSpace) -> None:
    """Print the settings of a valid search space and their values."""
    for setting in space.settings:
        click.echo(f"{setting.key}  {setting.describe()}")
    directions = [
        f"{name} ({'higher' if up else 'lower'} is better)"
        for name, up in zip(sweep.objectives, sweep.maximized, strict=True)
    ]
    click.echo(f"objectives: {', '.join(directions)}; pruner: {sweep.pruning}; sampler: {sweep.sampler}")
