"""``medseg study ablate``: compare the values of settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.commands.config import find_config_file, with_data_and_budget
from medseg.cli.options import DURATION, PATH, debug_option, jobs_option
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED, ConfigError

if TYPE_CHECKING:
    from medseg.data.cases import Part


@click.command()
@click.argument("config", type=PATH)
@click.argument("settings", nargs=-1, required=True)
@click.option("--output", type=PATH, help="Folder of the study.  [default: studies/CONFIG_SETTINGS]")
@click.option("--data", type=PATH, help="Folder of cases, as data.path.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Setting of all runs, such as train.epochs=20.",
)
@click.option("--budget", type=DURATION, help="Time of each training, such as 10min. Sets train.budget.")
@click.option("--seeds", default="0", show_default=True, help="Seeds of the runs of each cell, such as 0,1,2.")
@click.option(
    "--one-at-a-time", is_flag=True,
    help="Change one setting of CONFIG at a time instead of all combinations of the values.",
)  # fmt: skip
@click.option(
    "--cases", "part", type=click.Choice(["test", "val"]), default="test", show_default=True,
    help="Part of the split whose cases are compared.",
)  # fmt: skip
@jobs_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check the settings, and that the datasets exist; list the runs, train nothing.",
)
@debug_option
def ablate(
    config: Path,
    settings: tuple[str, ...],
    output: Path | None,
    data: Path | None,
    overrides: tuple[str, ...],
    budget: float | None,
    seeds: str,
    one_at_a_time: bool,
    part: Part,
    jobs: int | None,
    dry_run: bool,
) -> int:
    """Compare the values of settings on the same cases and seeds.

    CONFIG is a configuration file or the name of an included one: the baseline. SETTINGS are keys with lists of
    values, such as train.ema=[0,0.98] or 'loss=[{name: dice}, {name: focal}]'.

    Every combination is trained, the cases of --cases are predicted and evaluated, and table.md, table.csv and
    cases.csv compare them with the baseline. Started again, the command skips complete runs and continues the
    interrupted one. Exits with 4 if a run failed, with 3 if the dataset changed since a complete run began.
    """
    from medseg.files import check_writable
    from medseg.study import AblationConfig, run_ablation
    from medseg.study.cells import check_datasets, parse_grid
    from medseg.study.executors import LocalExecutor

    source = find_config_file(config)
    common = with_data_and_budget(overrides, data, budget)
    ablation = AblationConfig(
        source, parse_grid(settings), tuple(common), _parse_seeds(seeds),
        "one_at_a_time" if one_at_a_time else "grid", part,
    )  # fmt: skip
    if dry_run:
        cells = ablation.cells()
        check_datasets(cell.config for cell in cells)
        for cell in cells:
            click.echo(cell.name)
        click.echo(f"{len(cells)} cells, {len(cells) * len(ablation.seeds)} runs")
        return EXIT_OK
    names = (key.rpartition(".")[2] for key in ablation.grid)
    folder = output or Path("studies") / "_".join((config.stem, *names))
    check_writable(folder)
    result = run_ablation(ablation, folder, executor=LocalExecutor(jobs or 1))
    click.echo(result.markdown, nl=False)
    click.echo(f"tables: {result.output}")
    for outcome in result.failed:
        click.echo(f"failed: {outcome.describe()}", err=True)
    return EXIT_SOME_FAILED if result.failed else EXIT_OK


def _parse_seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--seeds {text!r}: expected numbers such as 0,1,2") from error
