"""``medseg study cv``: cross-validate a training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from medseg.cli.commands.config import find_source
from medseg.cli.options import DURATION, PATH, POSITIVE, debug_option
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED


@click.command()
@click.argument("source", type=PATH)
@click.argument("overrides", nargs=-1)
@click.option("--output", type=PATH, help="Folder of the study.  [default: studies/NAME_cv]")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Number of folds.")
@click.option(
    "--jobs", type=POSITIVE, default=1, show_default=True,
    help="Folds trained at the same time; they divide cores and GPUs.",
)  # fmt: skip
@click.option(
    "--budget", type=DURATION,
    help="Time that the whole study may take, such as 2h, divided over the folds.  [default: every fold is "
    "trained as the settings say]",
)  # fmt: skip
@click.option(
    "--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True,
    help="Weights of each fold's model. best: chosen on the held-out cases, whose scores are then too good.",
)  # fmt: skip
@click.option(
    "--stratify", "strata", multiple=True, metavar="COLUMN",
    help="Column of the manifest whose values are distributed evenly over the folds, besides the labels and "
    "their sizes. Can be repeated.",
)  # fmt: skip
@click.option(
    "--tta", is_flag=True,
    help="Choose mirrors and scales of test-time augmentation, too; takes about 20 predictions of every case.",
)  # fmt: skip
@debug_option
def cv(
    source: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    folds: int,
    jobs: int,
    budget: float | None,
    checkpoint: Literal["last", "best"],
    strata: tuple[str, ...],
    tta: bool,
) -> int:
    """Train on folds, evaluate on the cases that each left out, and make one model of all folds.

    SOURCE is a configuration file, the name of an included one, or a folder of cases, for which settings are
    planned once. OVERRIDES are settings such as train.epochs=50.

    The test cases of the split are in no fold. Started again, the command keeps what is finished and continues
    every training where it stopped. Exits with 4 if a fold failed, with 3 if the cases changed since the study
    began.
    """
    from medseg.files import check_writable
    from medseg.study import CrossValidationConfig, cross_validate
    from medseg.training.pacing.budget_clock import TimeBudget

    source = find_source(source)
    name = source.resolve().name if source.is_dir() else source.stem
    config = CrossValidationConfig(source, overrides, folds, budget, jobs, checkpoint, strata, tta)
    folder = output or Path("studies") / f"{name}_cv"
    check_writable(folder)
    result = cross_validate(
        config,
        folder,
        budget=None if budget is None else TimeBudget.of_command(budget),
    )
    click.echo(result.markdown, nl=False)
    click.echo(f"tables: {result.output}")
    if result.model is not None:
        click.echo(f"model: {result.model}")
    for failed in result.failed:
        click.echo(f"failed: {failed.describe()}", err=True)
    return EXIT_SOME_FAILED if result.failed else EXIT_OK
