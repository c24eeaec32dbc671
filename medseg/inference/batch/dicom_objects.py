"""Predictions, and label maps of any origin, as DICOM objects beside the series they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.data.cases import Case, join_problems
from medseg.data.io.dicom.series import UnevenSlices, series_grid, series_slices
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import is_dicom_series, read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.labels.terminology import lookup_terminology
from medseg.data.scans import align_to_grid, as_label_map
from medseg.dicom import OBJECTS_FOLDER
from medseg.dicom.rtstruct import structure_set
from medseg.dicom.segmentation import require_highdicom, segmentation
from medseg.dicom.source_series import Maker, Segment, planes_of, read_source
from medseg.errors import ConfigError, DataError, GeometryError
from medseg.files import write_atomic
from medseg.geometry import Array, Grid
from medseg.inference.batch.options import DicomKind
from medseg.inference.batch.provenance import Record
from medseg.report.palette import Legend, label_palette


def object_path(output: Path, case: str, kind: DicomKind) -> Path:
    """Where a case's object lies in an output folder."""
    return output / OBJECTS_FOLDER / f"{case}.{kind}.dcm"


def refuse_undicom(cases: Sequence[Case], kinds: Sequence[DicomKind]) -> None:
    """Raises: ConfigError if objects are asked for that cannot be written: of cases that are no DICOM series,
    or without highdicom.
    """
    if not kinds:
        return
    if "seg" in kinds:
        require_highdicom()
    others = [f"{case.id}: {case.image.name}" for case in cases if not is_dicom_series(case.image)]
    if others:
        raise ConfigError(join_problems("DICOM objects are written of DICOM series; these are none", others))


def segments_of(labels: LabelSchema) -> list[Segment]:
    """What an object has segments of: the labels but the background; where there are regions, those."""
    if labels.regions:
        palette = label_palette(len(labels.regions) + 1)[1:]
    else:
        palette = Legend.of(labels).palette(len(labels.names))[labels.first_evaluated :]
    return [
        Segment(
            name,
            values,
            labels.terminology.get(name) or lookup_terminology(name),
            labels.colors.get(name) or (int(color[0]), int(color[1]), int(color[2])),
        )
        for (name, values), color in zip(labels.evaluated.items(), palette, strict=True)
    ]


def write_objects(
    files: dict[DicomKind, Path],
    series: Path,
    label_map: Array,
    grid: Grid,
    labels: LabelSchema,
    maker: Maker,
    uneven: UnevenSlices = "refuse",
) -> tuple[str, ...]:
    """Write a label map (*S) on the grid of the series at ``series`` as objects of each kind asked for.

    Returns notes on what the series lacked.
    Raises: ConfigError, DataError or GeometryError if an object cannot be made of them.
    """
    source = read_source(series, uneven)
    try:
        planes = planes_of(label_map, grid, source.slices)
    except GeometryError as error:
        raise GeometryError(f"{series}: {error}") from error
    segments = segments_of(labels)
    for kind, path in files.items():
        make = segmentation if kind == "seg" else structure_set
        made = make(planes, segments, source, maker)
        with write_atomic(path) as temporary:
            made.save_as(temporary, enforce_file_format=True)
    return source.notes


def maker_of(record: Record) -> Maker:
    """How a result's label map was made: by its model alone, or changed by somebody afterwards."""
    version, model = str(record.content["medseg_version"]), str(record.content["model_sha256"])
    return Maker("SEMIAUTOMATIC" if record.edited() else "AUTOMATIC", version=version, model=model)


def export_label_map(
    label_map: Path,
    series: Path,
    output: Path,
    kind: DicomKind,
    labels: LabelSchema,
    *,
    maker: Maker,
    uneven: UnevenSlices = "refuse",
) -> tuple[str, ...]:
    """Write a label map's file as a DICOM object of the series it lies on; returns notes.

    Raises: ConfigError if ``series`` is no DICOM series, or ``output`` is there; DataError for values nobody
    named; GeometryError if the label map lies on another grid.
    """
    if not split_selector(series)[0].exists():
        raise DataError(f"{series}: no such file or folder")
    refuse_undicom([Case(series.name, series)], [kind])
    if output.exists():
        raise ConfigError(f"{output}: is there already; choose another name")
    grid = series_grid(series_slices(series, uneven))
    try:
        scan = align_to_grid(read_scan(label_map), grid)
    except GeometryError as error:
        raise GeometryError(f"{label_map}: does not lie on the grid of {series}: {error}") from error
    codes = labels.encode(as_label_map(scan), str(label_map))
    values = np.array([max(labels.output_values) + 1, *labels.output_values])[
        codes
    ]  # what is ignored is nothing
    return write_objects({kind: output}, series, values, grid, labels, maker, uneven)
