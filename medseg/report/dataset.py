"""The HTML page of a dataset: its summary, findings and pictures of some cases, in one offline file."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from medseg.data.cases import Case
from medseg.data.curation.check import DatasetReport
from medseg.data.curation.summary import summary_labels
from medseg.data.io.multichannel import read_image
from medseg.data.io.pictures import display_channels
from medseg.files import write_text
from medseg.geometry import Grid, to_ras
from medseg.report.palette import PLAIN, Legend
from medseg.report.pictures import panel


def write_dataset_page(path: Path, report: DatasetReport, summary: dict[str, Any], *, most: int = 12) -> None:
    """Write the HTML page of a dataset.

    Args:
        path: file to write.
        report: result of ``check_dataset``.
        summary: result of ``summarize_dataset``.
        most: number of cases to show, spread evenly over the dataset.
    """
    readable = {fact.id for fact in report.statistics}
    cases = [case for case in report.label_plan.cases if case.id in readable]
    chosen = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, min(most, len(cases))).astype(int))]
    pictures = [{"case": case.id, "source": _picture(case, report)} for case in chosen]
    environment = Environment(
        loader=PackageLoader("medseg.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("dataset.html")
    write_text(path, template.render(summary=summary, findings=report.findings, pictures=pictures))


def _picture(case: Case, report: DatasetReport) -> str:
    """Return a panel of image and label map as a data URI."""
    scan = read_image(case)
    labels = summary_labels(report)
    target = report.label_plan.reader.read(case, scan)
    classes = None
    if target is not None and labels is not None:
        classes = labels.encode(target.values, case.id).astype(np.int64) - 1
    if scan.kind == "volume":
        image, affine = to_ras(scan.array[:1], scan.grid.affine)
        spacing = Grid(image.shape[1:], affine).spacing
        shown = image[0]
        classes = None if classes is None else to_ras(classes[None], scan.grid.affine)[0][0]
    else:
        pixels = display_channels(scan)
        shown = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
        spacing = scan.grid.spacing
    legend = Legend.of(labels) if labels is not None else PLAIN
    stream = BytesIO()
    panel(shown, classes, None, spacing=spacing, legend=legend).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
