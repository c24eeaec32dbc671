"""``medseg export``: convert a model for another runtime."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.options import OUTPUT, PATH, debug_option, json_option

if TYPE_CHECKING:
    from medseg.interop.export import Target


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "--to", "target", required=True, type=click.Choice(["onnx", "torch", "openvino"]),
    help="Format. onnx: .onnx; torch: torch.export, .pt2; openvino: .xml and .bin.",
)  # fmt: skip
@click.option("-o", "--output", required=True, type=OUTPUT, help="File to write.")
@json_option
@debug_option
def export(model: Path, target: Target, output: Path, as_json: bool) -> None:
    """Convert the network of MODEL, a run folder or model file, for another runtime.

    The result is compared with torch. Its input is a preprocessed image; the metadata entry "medseg" describes
    the preprocessing and the classes of the logits.
    """
    from medseg.interop.export import describe, export_model

    exported = export_model(model, output, target)
    if as_json:
        click.echo(json.dumps({**asdict(exported), "path": str(exported.path)}))
    else:
        click.echo(describe(exported))
