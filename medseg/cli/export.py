"""``medseg export``: a model in another runtime's file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from medseg.interop.export import Target


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--to", "target", required=True, type=click.Choice(["onnx", "torch", "openvino"]),
    help="ONNX (.onnx), torch.export (.pt2), OpenVINO (.xml and .bin).",
)  # fmt: skip
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def export(model: Path, target: Target, output: Path, as_json: bool) -> None:
    """Write the network of MODEL, a run folder or model file, for another runtime; checked against torch.

    It takes preprocessed images; the file's metadata ("medseg") say how they are made and what logits mean.
    """
    from medseg.interop.export import describe, export_model

    exported = export_model(model, output, target)
    if as_json:
        click.echo(json.dumps({**asdict(exported), "path": str(exported.path)}))
    else:
        click.echo(describe(exported))
