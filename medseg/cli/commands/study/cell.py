"""``medseg study cell``: what the process of a cell runs; studies call it themselves."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.options import PATH, debug_option


@click.command(hidden=True)
@click.argument("folder", type=PATH)
@debug_option
def cell(folder: Path) -> None:
    """Run one cell of a study again, or continue it: FOLDER contains its cell.json."""
    from medseg.progress import ConsoleProgress
    from medseg.study.cell_job import execute_cell

    with ConsoleProgress() as progress:
        execute_cell(folder, progress)
