"""``medseg view``: a page with the pictures of one case, and files of it for other programs."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.options import OUTPUT, PATH, debug_option
from medseg.errors import DataError

if TYPE_CHECKING:
    from medseg.data.cases import Case
    from medseg.data.labels.reader import LabelReader
    from medseg.data.labels.schema import LabelSchema
    from medseg.report.export import ExportFormat
    from medseg.report.media import CaseView
    from medseg.report.media.windows import Window

_FORMATS = ("png", "svg", "geojson", "stl", "obj", "slicer", "itksnap")
_WINDOWS = ("auto", "percentiles", "soft tissue", "lung", "bone")


@click.command()
@click.argument("case")
@click.option("--run", type=PATH, help="Folder of a run; CASE is then the id of one of its cases.")
@click.option("--prediction", type=PATH, help="Predicted label map, or a folder with the file CASE.*.")
@click.option("--reference", type=PATH, help="Reference label map, or a folder with the file CASE.*.")
@click.option(
    "--labels",
    help="Names of the labels: NAME=VALUE[,…], or a medseg.json.  [default: medseg.json beside the "
    "prediction, or the labels of the run]",
)
@click.option(
    "--window", type=click.Choice(_WINDOWS), default="auto", show_default=True,
    help="Gray values drawn black and white. auto: a CT window for Hounsfield units, else percentiles.",
)  # fmt: skip
@click.option(
    "--export", "formats", multiple=True, type=click.Choice(_FORMATS),
    help="Write files for other programs beside the page: pictures, contours (geojson: QuPath), surfaces in "
    "RAS mm, color tables of 3D Slicer and ITK-SNAP. May be repeated.",
)  # fmt: skip
@click.option("--output", type=OUTPUT, help="Page to write.  [default: CASE.html]")
@click.option("--open/--no-open", "open_", default=False, help="Open the page in the browser.")
@debug_option
def view(
    case: str,
    run: Path | None,
    prediction: Path | None,
    reference: Path | None,
    labels: str | None,
    window: Window,
    formats: tuple[ExportFormat, ...],
    output: Path | None,
    open_: bool,
) -> None:
    """Write a page with pictures of one case: image, reference, prediction, errors, a viewer of volumes.

    CASE is the file of an image, the id of a case of --run, or the name of a case that has label maps only
    (--reference, --prediction).
    """
    from medseg.files import check_writable
    from medseg.report.export import export_case
    from medseg.report.media import FigureOptions, write_case_page

    names = _labels(labels, prediction, run)
    shown = (
        _view_of_files(case, prediction, reference, names)
        if run is None
        else _view_of_run(case, run, prediction, reference, names)
    )
    if output is None:
        output = Path(f"{shown.name}.html")
        check_writable(output)
    for path in export_case(shown, output.parent, formats):
        click.echo(f"{path.suffix.removeprefix('.')}: {path}")
    write_case_page(output, shown, FigureOptions(size=360, max_bytes=3_000_000, window=window))
    click.echo(f"page: {output}")
    if open_:
        click.launch(output.resolve().as_uri())


def _labels(text: str | None, prediction: Path | None, run: Path | None) -> LabelSchema | None:
    """Return the labels given, else those of the run, else those beside the prediction; None if unknown."""
    from medseg.evaluation.labels import parse_labels, read_labels

    if text is not None:
        return parse_labels(text)
    candidates = [] if run is None else [run / "dataset.json"]
    if prediction is not None:
        candidates.append((prediction if prediction.is_dir() else prediction.parent) / "medseg.json")
    return next((read_labels(path) for path in candidates if path.is_file()), None)


def _view_of_files(
    name: str, prediction: Path | None, reference: Path | None, labels: LabelSchema | None
) -> CaseView:
    """Read the arrays of a case from the files given."""
    from medseg.data.io.path_selectors import split_selector
    from medseg.data.io.readers import image_stem
    from medseg.report.media import read_case_view

    image = Path(name)
    has_image = split_selector(image)[0].exists()
    if not has_image and ((prediction is None and reference is None) or image.name != name or image.suffix):
        raise DataError(
            f"{name}: no such image",
            hint="Give the file of an image, a case of a run with --run, or a name with --reference and "
            "--prediction.",
            path=image,
        )
    case = image_stem(image) if has_image else name
    return read_case_view(
        case,
        image=image if has_image else None,
        reference=_label_file(reference, case),
        prediction=_label_file(prediction, case),
        labels=labels,
    )


def _view_of_run(
    name: str, run: Path, prediction: Path | None, reference: Path | None, labels: LabelSchema | None
) -> CaseView:
    """Read the arrays of a case of a run; its reference is read as in the training."""
    from medseg.data.io.multichannel import read_image
    from medseg.data.labels.reader import AS_STORED
    from medseg.report.media import view_of_scan

    case = _run_case(run, name)
    scan = read_image(case)
    files = [
        None if path is None else replace(case, label=path, masks={})
        for path in (_label_file(reference, name), _label_file(prediction, name))
    ]
    stored = _run_reader(run).read(case, scan) if files[0] is None else AS_STORED.read(files[0], scan)
    predicted = None if files[1] is None else AS_STORED.read(files[1], scan)
    maps = [None if one is None else one.values for one in (stored, predicted)]
    return view_of_scan(name, scan, maps, labels)


def _run_case(run: Path, name: str) -> Case:
    """Return a case of a run."""
    from medseg.data.cases import PARTS
    from medseg.inference.batch.input_discovery import run_cases

    cases: dict[str, Case] = {}
    for part in PARTS:
        with suppress(DataError):  # a part may be empty
            cases |= {case.id: case for case in run_cases(run, part)}
    if not cases:
        run_cases(run, "train")  # raises with the reason
    if name not in cases:
        close = get_close_matches(name, cases, 3)
        raise DataError(
            f"{run}: no case {name!r} among {len(cases)} cases",
            hint=f"Did you mean {' or '.join(close)}?" if close else "cases.json in the run lists the cases.",
        )
    return cases[name]


def _run_reader(run: Path) -> LabelReader:
    """Return how a run reads label files; as stored before its model is written."""
    from medseg.data.labels.reader import AS_STORED, LabelReader
    from medseg.inference.model.model_file import read_header

    header = read_header(run / "model.safetensors")
    return AS_STORED if header is None else LabelReader.model_validate(json.loads(header)["label_reader"])


def _label_file(path: Path | None, case: str) -> Path | None:
    """Return a label map: the file itself, or the file of a case in a folder."""
    from medseg.data.io.readers import image_stem, is_image_file

    if path is None or not path.is_dir():
        return path
    found = [one for one in sorted(path.iterdir()) if is_image_file(one) and image_stem(one) == case]
    if len(found) != 1:
        message = f"{len(found)} files are named {case}" if found else f"no file is named {case}.*"
        raise DataError(f"{path}: {message}", hint="Give the file itself.", path=path)
    return found[0]
