"""``medseg dicom``: label maps as DICOM objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from medseg.data.labels.schema import LabelSchema
    from medseg.dicom.source_series import Maker

_MADE = ("automatic", "semiautomatic", "manual")


@click.group()
def dicom() -> None:
    """Write DICOM objects."""


@dicom.command("export")
@click.argument("label_map", type=click.Path(path_type=Path))
@click.argument("series", type=click.Path(path_type=Path))
@click.option("--to", "kind", type=click.Choice(["seg", "rtstruct"]), required=True, help="The kind of object.")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option("--labels", help="NAME=VALUE[,…] or a medseg.json; else the one beside LABEL_MAP.")
@click.option(
    "--made", type=click.Choice(_MADE),
    help="How the label map was made; else as the record in provenance/ says: by its model, or edited since.",
)  # fmt: skip
@click.option(
    "--dicom-geometry", "uneven", type=click.Choice(["refuse", "resample"]), default="refuse",
    show_default=True, help="Of series with uneven or missing slices, as of medseg infer.",
)  # fmt: skip
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def dicom_export(
    label_map: Path, series: Path, kind: str, output: Path, labels: str | None, made: str | None, uneven: str
) -> None:
    """Write LABEL_MAP as a DICOM object of the SERIES whose grid it lies on."""
    from medseg.inference.batch.dicom_objects import export_label_map

    known, maker = _labels_and_maker(label_map, labels, made)
    notes = export_label_map(
        label_map,
        series,
        output,
        "seg" if kind == "seg" else "rtstruct",
        known,
        maker=maker,
        uneven="resample" if uneven == "resample" else "refuse",
    )
    click.echo(f"{output}" + "".join(f" ({note})" for note in notes))


def _labels_and_maker(label_map: Path, labels: str | None, made: str | None) -> tuple[LabelSchema, Maker]:
    """What the values mean, and how the map was made: as given, else as the folder of its result says."""
    from medseg.dicom.source_series import Maker
    from medseg.evaluation import parse_labels
    from medseg.inference.batch.dicom_objects import maker_of
    from medseg.inference.batch.provenance import record_of

    record = record_of(label_map)
    legend = (label_map.parent if record is None else record.output) / "medseg.json"
    if labels is None and not legend.is_file():
        raise click.UsageError(f"say what the values mean: --labels NAME=VALUE[,…] ({legend} is not there)")
    known = parse_labels(labels or str(legend))
    if made == "manual":
        return known, Maker("MANUAL")
    if made is not None:
        kind = "AUTOMATIC" if made == "automatic" else "SEMIAUTOMATIC"
        return known, Maker(kind, algorithm="not stated", version="not stated")
    if record is None or not record.finished:
        raise click.UsageError(
            f"say how the label map was made: --made {'|'.join(_MADE)} (no record in provenance/ names it)"
        )
    maker = maker_of(record)
    if maker.kind != "AUTOMATIC":
        click.echo(f"{label_map}: was changed after the model made it, written as {maker.kind}", err=True)
    return known, maker
