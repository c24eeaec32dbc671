"""``medseg dicom``: write label maps as DICOM objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.options import OUTPUT, PATH, debug_option, geometry_option

if TYPE_CHECKING:
    from medseg.data.labels.schema import LabelSchema
    from medseg.dicom.source_series import SegmentAlgorithm

_METHODS = ("automatic", "semiautomatic", "manual")


@click.group()
def dicom() -> None:
    """Write DICOM objects."""


@dicom.command("export")
@click.argument("label_map", type=PATH)
@click.argument("series", type=PATH)
@click.option("--to", "kind", type=click.Choice(["seg", "rtstruct"]), required=True, help="Kind of object.")
@click.option("--output", "-o", required=True, type=OUTPUT, help="File to write.")
@click.option(
    "--labels",
    help="Names of the labels: NAME=VALUE[,…], or a medseg.json.  [default: medseg.json next to LABEL_MAP]",
)
@click.option(
    "--made", type=click.Choice(_METHODS),
    help="How the label map was made.  [default: from the record in provenance/]",
)  # fmt: skip
@geometry_option
@debug_option
def dicom_export(
    label_map: Path, series: Path, kind: str, output: Path, labels: str | None, made: str | None, uneven: str
) -> None:
    """Write LABEL_MAP as a DICOM object that refers to SERIES; both must be on the same grid."""
    from medseg.inference.batch.outputs.dicom_objects import DicomExport, export_label_map

    names, algorithm = _labels_and_algorithm(label_map, labels, made)
    export = DicomExport(
        "seg" if kind == "seg" else "rtstruct",
        names,
        algorithm,
        "resample" if uneven == "resample" else "refuse",
    )
    notes = export_label_map(label_map, series, output, export)
    click.echo(f"{output}" + "".join(f" ({note})" for note in notes))


def _labels_and_algorithm(
    label_map: Path, labels: str | None, made: str | None
) -> tuple[LabelSchema, SegmentAlgorithm]:
    """Return the labels and how the map was made, as given, or as recorded with the result."""
    from medseg.dicom.source_series import SegmentAlgorithm
    from medseg.evaluation import parse_labels
    from medseg.inference.batch.outputs.dicom_objects import describe_algorithm
    from medseg.inference.batch.outputs.provenance import find_record

    record = find_record(label_map)
    legend = (label_map.parent if record is None else record.output) / "medseg.json"
    if labels is None and not legend.is_file():
        raise click.UsageError(f"name the label values with --labels NAME=VALUE[,…] (no such file: {legend})")
    names = parse_labels(labels or str(legend))
    if made == "manual":
        return names, SegmentAlgorithm("MANUAL")
    if made is not None:
        kind = "AUTOMATIC" if made == "automatic" else "SEMIAUTOMATIC"
        return names, SegmentAlgorithm(kind, name="not stated", version="not stated")
    if record is None or not record.finished:
        raise click.UsageError(
            f"give --made {'|'.join(_METHODS)}: no record in provenance/ describes how the label map was made"
        )
    algorithm = describe_algorithm(record)
    if algorithm.kind != "AUTOMATIC":
        click.echo(f"{label_map}: was changed after the model wrote it; written as {algorithm.kind}", err=True)
    return names, algorithm
