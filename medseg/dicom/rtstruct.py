"""DICOM RTSTRUCT objects: closed planar contours of each label on each slice (PS3.3, A.19)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from medseg.data.io.dicom.series import DicomSlice
from medseg.data.labels.names.terminology import SIDES
from medseg.dicom.contours import count_parts, outlines
from medseg.dicom.source_series import (
    MEDSEG_VERSION,
    RESEARCH_USE,
    Segment,
    SegmentAlgorithm,
    SourceSeries,
    code_item,
    describe_object,
)
from medseg.errors import DataError
from medseg.geometry import Array

MAX_CONTOURS = 20_000
"""Maximum number of contours per object; a dozen organs on 500 slices have about 5,000."""

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: retired, but required in references to a study."""


def build_rtstruct(
    planes: Array, segments: Sequence[Segment], source: SourceSeries, algorithm: SegmentAlgorithm
) -> Dataset:
    """Build a structure set; a label without voxels becomes an ROI without contours.

    Args:
        planes: (slices, rows, columns) label values.
        segments: labels of the object.
        source: the series that the object refers to.
        algorithm: how the label map was made.

    Raises:
        DataError: there are more than ``MAX_CONTOURS`` contours.
    """
    _check_contour_count(planes, segments)
    made: Any = Dataset()
    made.file_meta = FileMetaDataset()
    # explicit VR cannot hold contours of more than 64 kB
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    now = datetime.now()
    with disable_value_validation():
        describe_object(made, source, "structures")
    made.Modality, made.SeriesInstanceUID, made.InstanceNumber = "RTSTRUCT", generate_uid(prefix=None), 1
    made.OperatorsName = None
    made.Manufacturer = made.ManufacturerModelName = "medseg"
    made.SoftwareVersions = MEDSEG_VERSION
    made.InstanceCreationDate = made.StructureSetDate = now.strftime("%Y%m%d")
    made.InstanceCreationTime = made.StructureSetTime = now.strftime("%H%M%S")
    made.StructureSetLabel, made.StructureSetDescription = "medseg", RESEARCH_USE
    made.ApprovalStatus = "UNAPPROVED"
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = source.first.FrameOfReferenceUID, None
    made.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    made.StructureSetROISequence = [_roi(i, s, source, algorithm) for i, s in enumerate(segments, start=1)]
    made.ROIContourSequence = [_contours(i, s, planes, source) for i, s in enumerate(segments, start=1)]
    made.RTROIObservationsSequence = [_observation(i, s) for i, s in enumerate(segments, start=1)]
    return made


def _check_contour_count(planes: Array, segments: Sequence[Segment]) -> None:
    counts = {s.text: sum(count_parts(np.isin(plane, s.values)) for plane in planes) for s in segments}
    if sum(counts.values()) > MAX_CONTOURS:
        most = max(counts, key=counts.__getitem__)
        raise DataError(
            f"RTSTRUCT with {sum(counts.values())} contours, {counts[most]} of them of {most}: more than "
            f"{MAX_CONTOURS}, which planning systems cannot display",
            hint="Remove small components (inference.postprocess), or write a SEG.",
        )


def _frame_of_reference(source: SourceSeries) -> Dataset:
    series: Any = Dataset()
    series.SeriesInstanceUID = source.first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(header) for header in source.headers]
    study: Any = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, source.first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame: Any = Dataset()
    frame.FrameOfReferenceUID = source.first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(header: Any) -> Dataset:
    item: Any = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def _roi(number: int, segment: Segment, source: SourceSeries, algorithm: SegmentAlgorithm) -> Dataset:
    item: Any = Dataset()
    item.ROINumber, item.ROIName = number, segment.text
    item.ReferencedFrameOfReferenceUID = source.first.FrameOfReferenceUID
    item.ROIGenerationAlgorithm = algorithm.kind
    if algorithm.kind != "MANUAL":
        model = (algorithm.model or "")[:16]
        item.ROIGenerationDescription = f"{algorithm.name} {algorithm.version} {model}".strip()
    return item


def _observation(number: int, segment: Segment) -> Dataset:
    item: Any = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIInterpretedType, item.ROIInterpreter = "", None
    term = code_item(segment.code.value, segment.code.scheme, segment.code.meaning)
    if segment.code.side is not None:
        value, meaning = SIDES[segment.code.side]
        term.SegmentedPropertyTypeModifierCodeSequence = [code_item(value, "SCT", meaning)]
    item.RTROIIdentificationCodeSequence = [term]
    return item


def _contours(number: int, segment: Segment, planes: Array, source: SourceSeries) -> Dataset:
    item: Any = Dataset()
    item.ROIDisplayColor, item.ReferencedROINumber = list(segment.color), number
    contours: list[Dataset] = []
    for dicom_slice, header, polygon in _polygons(segment, planes, source):
        contour: Any = Dataset()
        contour.ContourImageSequence = [_reference(header)]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(polygon)
        contour.ContourNumber = len(contours) + 1
        contour.ContourData = [f"{value:.5f}" for value in pixel_to_patient(polygon, dicom_slice).ravel()]
        contours.append(contour)
    if contours:
        item.ContourSequence = contours
    return item


def _polygons(
    segment: Segment, planes: Array, source: SourceSeries
) -> Iterator[tuple[DicomSlice, Dataset, Array]]:
    for plane, dicom_slice, header in zip(planes, source.slices, source.headers, strict=True):
        mask = np.isin(plane, segment.values)
        if mask.any():
            for polygon in outlines(mask):
                yield dicom_slice, header, polygon


def pixel_to_patient(polygon: Array, dicom_slice: DicomSlice) -> Array:
    """Map vertices (n, 2), (row, column) of a slice, to patient coordinates (n, 3), LPS mm."""
    orientation, spacing = dicom_slice.orientation, dicom_slice.spacing
    axes = np.stack([orientation[3:] * spacing[0], orientation[:3] * spacing[1]])
    return dicom_slice.position + polygon @ axes
