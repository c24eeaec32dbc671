"""``medseg doctor``: check the machine and the installation."""

from __future__ import annotations

import json

import click

from medseg.cli.options import debug_option, json_option


@click.command()
@json_option
@debug_option
def doctor(as_json: bool) -> int:
    """Check devices, memory, package versions, optional packages and folders.

    Exits with 1 if a check finds a problem.
    """
    from medseg.system.diagnostics import diagnose

    findings = diagnose()
    if as_json:
        click.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.status:8} {finding.topic:10} {finding.subject}: {finding.message}")
            if finding.hint:
                click.echo(f"{'':8} hint: {finding.hint}")
    return 1 if any(finding.is_problem for finding in findings) else 0
