"""``medseg dicom``: label maps as DICOM objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from medseg.data.dicom_out.source import Maker
    from medseg.data.labels import Labels

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
    help="How the label map was made, where no medseg.json names the model that made it.",
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
    from medseg.inference.dicom_objects import export_label_map

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


def _labels_and_maker(label_map: Path, labels: str | None, made: str | None) -> tuple[Labels, Maker]:
    """What the values mean, and who made them: as told, else as the medseg.json beside the label map says."""
    from medseg.data.dicom_out.source import Maker
    from medseg.evaluation import parse_labels

    beside = label_map.parent / "medseg.json"
    if labels is None and not beside.is_file():
        raise click.UsageError(f"say what the values mean: --labels NAME=VALUE[,…] ({beside} is not there)")
    known = parse_labels(labels or str(beside))
    if made is None:
        content = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
        if "model_sha256" not in content:
            raise click.UsageError(f"say how the label map was made: --made {'|'.join(_MADE)}")
        return known, Maker(version=content["medseg_version"], model=content["model_sha256"])
    if made == "manual":
        return known, Maker("MANUAL")
    kind = "AUTOMATIC" if made == "automatic" else "SEMIAUTOMATIC"
    return known, Maker(kind, algorithm="not stated", version="not stated")
