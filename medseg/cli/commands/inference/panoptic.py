"""``medseg panoptic``: things and stuff of two models as COCO panoptic files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from medseg.cli.options import OUTPUT, PATH, FiniteRange, debug_option, json_option
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED


@click.command()
@click.argument("things", type=PATH)
@click.argument("stuff", type=PATH)
@click.option("--output", type=OUTPUT, required=True, help="Folder for panoptic.json and panoptic/CASE.png.")
@click.option(
    "--score", type=FiniteRange(0, 1), default=0.0, show_default=True,
    help="Things with a lower score are left out.",
)  # fmt: skip
@click.option(
    "--visible", type=FiniteRange(0, 1), default=0.5, show_default=True,
    help="Share of a thing that must not be covered by things with a higher score.",
)  # fmt: skip
@click.option(
    "--smallest", type=click.IntRange(min=0), default=64, show_default=True,
    help="Stuff segments with fewer pixels are left void.",
)  # fmt: skip
@json_option
@debug_option
def panoptic(
    things: Path, stuff: Path, output: Path, score: float, visible: float, smallest: int, as_json: bool
) -> int:
    """Merge two segmentations of the same pictures so that each pixel belongs to one thing or stuff.

    THINGS and STUFF are folders that medseg infer has written: with a model that tells objects apart, and with
    a model of classes. The result, a panoptic segmentation, is in COCO's panoptic format: medseg evaluate
    --panoptic compares it with references. Exits with 4 if a picture is in one of the folders only, or cannot
    be merged.
    """
    from medseg.instances.panoptic import PanopticOptions
    from medseg.interop.panoptic import merge_panoptic_folders

    merged = merge_panoptic_folders(things, stuff, output, PanopticOptions(score, visible, smallest))
    if as_json:
        found = {"output": str(output / "panoptic.json"), "cases": merged.cases, "failed": merged.failed}
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        click.echo(f"{len(merged.cases)} pictures: {output / 'panoptic.json'}")
    for case, reason in merged.failed.items():
        click.echo(f"failed: {case}: {reason}", err=True)
    return EXIT_SOME_FAILED if merged.failed else EXIT_OK
