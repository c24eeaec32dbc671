"""``medseg study``: studies of several trainings, one module per command."""

from __future__ import annotations

import click

from medseg.cli.commands.study.ablate import ablate
from medseg.cli.commands.study.cell import cell
from medseg.cli.commands.study.cv import cv
from medseg.cli.commands.study.run import run
from medseg.cli.commands.study.status import status
from medseg.cli.commands.study.sweep import sweep


@click.group()
def study() -> None:
    """Compare trainings that differ in their settings."""


for _command in (ablate, cell, cv, run, status, sweep):
    study.add_command(_command)
