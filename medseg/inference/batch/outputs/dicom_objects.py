"""DICOM objects of predictions, and of label maps of any origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medseg.data.cases import Case, join_problems
from medseg.data.io.dicom.series import UnevenSlices, series_grid, series_slices
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import is_dicom_series, read_scan
from medseg.data.labels.names.terminology import lookup_terminology
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import align_to_grid, as_label_map
from medseg.dicom import OBJECTS_FOLDER
from medseg.dicom.rtstruct import build_rtstruct
from medseg.dicom.segmentation import build_segmentation, require_highdicom
from medseg.dicom.source_series import (
    Segment,
    SegmentAlgorithm,
    SourceSeries,
    planes_on_slices,
    read_source_series,
)
from medseg.errors import ConfigError, DataError, GeometryError
from medseg.files import write_atomic
from medseg.geometry import Array
from medseg.inference.batch.options import DicomKind
from medseg.inference.batch.outputs.provenance import Record
from medseg.instances.result import Instances
from medseg.report.palette import Legend, label_palette

MOST_SEGMENTS = 65_535
"""Segments of a DICOM object, whose numbers have 16 bits."""


def object_path(output: Path, case: str, kind: DicomKind) -> Path:
    """Path of a case's DICOM object in an output folder."""
    return output / OBJECTS_FOLDER / f"{case}.{kind}.dcm"


def check_dicom_sources(cases: Sequence[Case], kinds: Sequence[DicomKind]) -> None:
    """Check that DICOM objects can be written for all cases.

    Raises:
        ConfigError: a case is not a DICOM series, or highdicom is needed and not installed.
    """
    if not kinds:
        return
    if "seg" in kinds:
        require_highdicom()
    others = [f"{case.id}: {case.image.name}" for case in cases if not is_dicom_series(case.image)]
    if others:
        raise ConfigError(
            join_problems("DICOM objects need DICOM series as inputs; these cases are not DICOM series", others)
        )


def label_segments(labels: LabelSchema) -> list[Segment]:
    """The segments of an object: the labels without the background, or the regions if there are any."""
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


def instance_segments(instances: Instances, labels: LabelSchema) -> list[Segment]:
    """The segments of numbered objects: one for each, named by its label and number.

    Without objects, they are those of the labels: a DICOM object has at least one segment.

    Raises:
        DataError: there are more objects than a DICOM object can number.
    """
    if len(instances) > MOST_SEGMENTS:
        raise DataError(
            f"{len(instances):,} objects; a DICOM object has at most {MOST_SEGMENTS:,} segments",
            hint="Leave --dicom out, or drop small and unlikely objects by --set instances.smallest and score.",
        )
    if not len(instances):
        return label_segments(labels)
    by_name = {one.name: one for one in label_segments(labels)}
    names = labels.class_names
    palette = label_palette(len(instances) + 1)[1:]
    segments: list[Segment] = []
    for number, (kind, color) in enumerate(zip(instances.classes.tolist(), palette, strict=True), start=1):
        code = by_name[names[kind]].code
        rgb = (int(color[0]), int(color[1]), int(color[2]))
        segments.append(Segment(f"{names[kind]} {number}", (number,), code, rgb))
    return segments


def build_objects(
    kinds: Sequence[DicomKind],
    planes: Array,
    segments: Sequence[Segment],
    source: SourceSeries,
    algorithm: SegmentAlgorithm,
) -> dict[DicomKind, Dataset]:
    """Build one DICOM object of each kind; nothing is written.

    Args:
        kinds: kinds of objects.
        planes: (slices, rows, columns) values, from :func:`~medseg.dicom.source_series.planes_on_slices`.
        segments: of the values: :func:`label_segments` or :func:`instance_segments`.
        source: the series that the objects refer to.
        algorithm: how the label map was made.

    Raises:
        ConfigError: highdicom is not installed and needed.
        DataError: the series or the label map cannot be represented.
    """
    builders = {"seg": build_segmentation, "rtstruct": build_rtstruct}
    return {kind: builders[kind](planes, segments, source, algorithm) for kind in kinds}


def describe_algorithm(record: Record) -> SegmentAlgorithm:
    """How a label map of medseg was made: by its model alone, or edited afterwards."""
    return SegmentAlgorithm(
        "SEMIAUTOMATIC" if record.is_edited() else "AUTOMATIC",
        version=str(record.content["medseg_version"]),
        model=str(record.content["model_sha256"]),
    )


@dataclass(frozen=True)
class DicomExport:
    """What :func:`export_label_map` writes.

    Attributes:
        kind: kind of the object.
        labels: names, values, colors and codes of the labels.
        algorithm: how the label map was made.
        dicom_geometry: handling of series with uneven or missing slices.
    """

    kind: DicomKind
    labels: LabelSchema
    algorithm: SegmentAlgorithm
    dicom_geometry: UnevenSlices = "refuse"


def export_label_map(label_map: Path, series: Path, output: Path, export: DicomExport) -> tuple[str, ...]:
    """Write a label map as a DICOM object of the series on whose grid it lies.

    Args:
        label_map: file of the label map.
        series: folder or file of the DICOM series.
        output: file to write.
        export: kind, labels and origin of the object.

    Returns:
        Notes on what the series lacks.

    Raises:
        ConfigError: ``series`` is not a DICOM series, or ``output`` exists.
        DataError: the label map has undeclared values.
        GeometryError: the label map has another grid than the series.
    """
    if not split_selector(series)[0].exists():
        raise DataError(f"{series}: no such file or folder", path=series)
    check_dicom_sources([Case(series.name, series)], [export.kind])
    if output.exists():
        raise ConfigError(f"{output}: file exists", hint="Choose another name.", path=output)
    grid = series_grid(series_slices(series, export.dicom_geometry))
    try:
        scan = align_to_grid(read_scan(label_map), grid)
    except GeometryError as error:
        raise GeometryError(f"{label_map}: is not on the grid of {series}: {error}", path=label_map) from error
    values = _without_ignored(export.labels.encode(as_label_map(scan), str(label_map)), export.labels)
    source = read_source_series(series, export.dicom_geometry)
    planes = planes_on_slices(values, grid, source)
    segments = label_segments(export.labels)
    (dataset,) = build_objects([export.kind], planes, segments, source, export.algorithm).values()
    with write_atomic(output) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return source.notes


def _without_ignored(encoded: Array, labels: LabelSchema) -> Array:
    """Label values of encoded voxels; ignored voxels get a value that no label has."""
    return np.array([max(labels.output_values) + 1, *labels.output_values])[encoded]
