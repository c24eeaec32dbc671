"""``medseg demo``: a complete run on synthetic data."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.evaluation_table import print_evaluation
from medseg.cli.options import OUTPUT, debug_option


@click.command()
@click.option(
    "--output", type=OUTPUT, default=Path("medseg-demo"), show_default=True,
    help="Folder of the demonstration; replaced if an earlier demonstration wrote it.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="Train for a quarter of the updates; the scores are lower.")
@debug_option
def demo(output: Path, quick: bool) -> None:
    """Train, predict and evaluate on synthetic volumes and pictures, in a few minutes.

    If you interrupt it, run it again; it starts over.
    """
    from medseg.demo.run import DEMOS, RESTART, prepare_folder, run_demo, shorten

    prepare_folder(output)
    try:
        for name, one in DEMOS.items():
            click.echo(f"\n{one.title}")
            folder = output / name
            print_evaluation(run_demo(shorten(one) if quick else one, folder))
            click.echo(f"pictures: {folder / 'predictions' / 'overlays'}")
            click.echo(f"tables:   {folder / 'metrics' / 'cases.csv'}")
            click.echo(f"model:    {folder / 'run' / 'model.safetensors'}")
    except KeyboardInterrupt:  # outside a training
        click.echo(f"hint: {RESTART}", err=True)
        raise
    click.echo(f"\n{output} is safe to delete")
