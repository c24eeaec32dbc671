"""``medseg reproduce``: train a run again from its own record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.options import PATH, debug_option, json_option, network_option
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from medseg.study.reproduction import Reproduction, WeightComparison


@click.command()
@click.argument("run_folder", metavar="RUN", type=PATH)
@click.option("--output", type=PATH, help="Run folder of the reproduction.  [default: RUN-reproduced]")
@click.option("--data", type=PATH, help="Folder of the cases, if they were moved.")
@click.option(
    "--dry-run", is_flag=True, help="Compare cases, code, versions and hardware with the record; train nothing."
)
@network_option("The network of a run that was trained with --network.")
@click.option("--loss", metavar="MODULE:FUNCTION", help="The loss of a run that was trained with --loss.")
@json_option
@debug_option
def reproduce(
    run_folder: Path,
    output: Path | None,
    data: Path | None,
    dry_run: bool,
    network: str | None,
    loss: str | None,
    as_json: bool,
) -> int:
    """Train a run again from its own record, and say what differs.

    RUN is the run folder of a finished training: its settings, split, hashes, versions and seeds are repeated,
    with a time budget also the decisions of its clock. Printed are the cases that changed, differences of code,
    versions and hardware, and whether the weights came out equal. Exits with 4 if they did not, with 3 if the
    cases changed since an interrupted reproduction began. With --dry-run, exits with 4 if cases changed or are
    missing, or code, versions or hardware differ; added cases take no part.
    """
    from medseg.cli.user_code import load_extensions
    from medseg.files import check_writable
    from medseg.study.reproduction import reproduce_run

    own = load_extensions(network, loss)
    whole = run_folder.resolve()
    folder = output or whole.with_name(f"{whole.name}-reproduced")
    if not dry_run:
        check_writable(folder)
    result = reproduce_run(run_folder, folder, data=data, train=not dry_run, **own)
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        _print_differences(result)
        if result.weights is not None:
            _print_weights(result.weights)
    return EXIT_OK if (result.unchanged if dry_run else result.equal) else EXIT_SOME_FAILED


def _print_differences(result: Reproduction) -> None:
    from medseg.progress import plural

    click.echo("data      " + (plural(len(result.cases), "change") if result.cases else "equal"))
    for case in result.cases:
        click.echo(f"          case {case.case}: {case.change}")
    for topic in ("code", "versions", "hardware"):
        own = [one.describe() for one in result.environment if one.topic == topic]
        click.echo(f"{topic:10}" + ("; ".join(own) or "equal"))
    for note in result.notes:
        click.echo(f"note: {note}")


def _print_weights(weights: WeightComparison) -> None:
    if weights.equal:
        click.echo(f"weights   equal, bit by bit, in {weights.tensors} tensors")
    else:
        click.echo(
            f"weights   differ in {weights.different} of {weights.tensors} tensors, "
            f"most by {weights.largest:.3g} ({weights.tensor})"
        )
    if weights.steps != weights.reproduced_steps:
        click.echo(f"updates   {weights.steps}, reproduced {weights.reproduced_steps}")
    if weights.score is not None or weights.reproduced_score is not None:
        first, second = (
            "none" if score is None else f"{score:.6f}" for score in (weights.score, weights.reproduced_score)
        )
        click.echo(f"score     {first}, reproduced {second}")
