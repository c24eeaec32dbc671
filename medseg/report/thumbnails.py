"""Small pictures of cases for a grid: one slice with the outlines of its labels."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from medseg.data.cases import Case
from medseg.data.curation.check import DatasetReport
from medseg.data.curation.summary import summary_labels
from medseg.data.io.multichannel import read_image
from medseg.data.io.pictures import display_image
from medseg.data.scans import Scan
from medseg.geometry import Array, Grid, to_ras
from medseg.report.palette import PLAIN, Bytes, Legend
from medseg.report.pictures import overlay, slice_of, to_uint8
from medseg.report.scaling import resize, resize_label

_SIDE = 300
_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A small picture.

    Attributes:
        source: JPEG as a data URI.
        alt: what it shows.
    """

    source: str
    alt: str


def draw_thumbnail(case: Case, report: DatasetReport) -> Thumbnail:
    """Draw a case: the picture, or the axial slice with the most labels, with outlines of the labels.

    Args:
        case: one of the cases that can be read.
        report: result of checking its dataset.
    """
    scan = read_image(case)
    labels = summary_labels(report)
    target = report.label_plan.reader.read(case, scan)
    classes = np.zeros(scan.grid.shape, np.int64)
    if target is not None and labels is not None:
        classes = labels.encode(target.values, case.id).astype(np.int64) - 1
    legend = Legend.of(labels) if labels is not None else PLAIN
    image, shown = _enlarged(*_plane(scan, classes))
    picture = Image.fromarray(overlay(image, shown, legend, alpha=0.25))
    picture.thumbnail((_SIDE, _SIDE))
    stream = BytesIO()
    picture.save(stream, format="JPEG", quality=_QUALITY, optimize=True)
    source = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    names = [legend.name(int(value)) for value in np.unique(shown) if value >= legend.first]
    listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    kind = "axial slice" if scan.kind == "volume" else "picture"
    return Thumbnail(
        source, f"{case.id}: {kind} with {listed}" if names else f"{case.id}: {kind} without labels"
    )


def _enlarged(image: Bytes, classes: Array) -> tuple[Bytes, Array]:
    """Enlarge a picture that is smaller than a thumbnail, and its classes."""
    factor = _SIDE / max(image.shape[:2])
    if factor <= 1:
        return image, classes
    size = (max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor)))
    return resize(image, size, np.uint8, Image.Resampling.BICUBIC), resize_label(classes, size)


def _plane(scan: Scan, classes: Array) -> tuple[Bytes, Array]:
    """Return a picture (H, W[, 3]) uint8 and its classes (H, W)."""
    if scan.kind == "picture":
        shown: Any = display_image(scan)
        return (shown if shown.dtype == np.uint8 else to_uint8(shown)), classes
    image, affine = to_ras(scan.array[:1], scan.grid.affine)
    turned = to_ras(classes[None], scan.grid.affine)[0][0]
    spacing = Grid(image.shape[1:], affine).spacing
    plane, label = slice_of(image[0], turned, spacing=spacing)
    return to_uint8(plane), label
