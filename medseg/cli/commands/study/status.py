"""``medseg study status``: what the runs of a study do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from medseg.cli.options import PATH, debug_option, json_option
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED


@click.command()
@click.argument("folder", type=PATH)
@json_option
@debug_option
def status(folder: Path, as_json: bool) -> int:
    """Show which runs of a study are complete, running, waiting or failed.

    FOLDER is the folder of the study (--output). Exits with 4 if a run failed.
    """
    from rich.console import Console
    from rich.table import Table

    from medseg.progress import duration
    from medseg.study.status import count_statuses, study_status

    runs = study_status(folder)
    if as_json:
        click.echo(json.dumps([asdict(run) for run in runs], indent=2, ensure_ascii=False))
    else:
        table = Table("run", "status", "time", "Dice", "", box=None)
        for run in runs:
            score = "" if run.dice is None else f"{run.dice:.4f}"
            table.add_row(run.name, run.status, duration(run.seconds) if run.seconds else "", score, run.detail)
        console = Console(highlight=False, markup=False)
        Console(highlight=False, markup=False, width=max(120, console.width)).print(table)
        click.echo(count_statuses(runs))
    return EXIT_SOME_FAILED if any(run.status == "failed" for run in runs) else EXIT_OK
