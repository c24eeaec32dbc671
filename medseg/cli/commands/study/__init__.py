"""``medseg study``: studies of several trainings, one module per command."""

from __future__ import annotations

import click

from medseg.cli.commands.study.ablate import ablate


@click.group()
def study() -> None:
    """Compare trainings that differ in their settings."""


for _command in (ablate,):
    study.add_command(_command)
