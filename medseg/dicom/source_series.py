"""The series that a DICOM object refers to, and attributes common to all objects that medseg writes.

Patient and study attributes are copied from the series to the object and nowhere else. They are kept apart from
the headers that are passed to other libraries, whose warnings show values.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medseg.data.io.dicom.series import DicomSlice, UnevenSlices, series_slices
from medseg.data.labels.names.terminology import TerminologyCode
from medseg.data.labels.schema import Color
from medseg.errors import DataError, GeometryError
from medseg.geometry import LPS_TO_RAS, Array, Grid
from medseg.system.version import medseg_version

_UIDS = {
    "StudyInstanceUID": "study",
    "SeriesInstanceUID": "series",
    "FrameOfReferenceUID": "frame of reference",
}
MEDSEG_VERSION = medseg_version()
RESEARCH_USE = "Research use only, not for diagnosis"

# PS3.3: Patient, Clinical Trial Subject, General Study and Patient Study modules; required attributes first.
_REQUIRED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
             "AccessionNumber", "ReferringPhysicianName")  # fmt: skip
_OPTIONAL = ("IssuerOfPatientID", "PatientBirthTime", "EthnicGroup", "PatientIdentityRemoved",
             "DeidentificationMethod", "DeidentificationMethodCodeSequence", "ClinicalTrialSponsorName",
             "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
             "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID",
             "ClinicalTrialTimePointID", "StudyDescription", "PatientAge", "PatientSize",
             "PatientWeight")  # fmt: skip
_IMAGE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
          "PositionReferenceIndicator", "Modality", "SeriesNumber", "InstanceNumber", "Rows", "Columns",
          "PixelSpacing", "SliceThickness", "ImagePositionPatient", "LossyImageCompression",
          "LossyImageCompressionRatio", "LossyImageCompressionMethod")  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """One label of an object.

    Attributes:
        name: name of the label.
        values: its values in the label map.
        code: coded term.
        color: RGB.
    """

    name: str
    values: tuple[int, ...]
    code: TerminologyCode
    color: Color

    @property
    def text(self) -> str:
        """The name as a DICOM long string (64 characters, no backslash)."""
        return self.name.replace("\\", " ")[:64]


@dataclass(frozen=True)
class SegmentAlgorithm:
    """How a label map was made.

    Attributes:
        kind: Segment Algorithm Type, PS3.3 (0062,0008).
        name: name of the algorithm; not written if ``kind`` is ``MANUAL``.
        version: its version; not written if ``kind`` is ``MANUAL``.
        model: SHA-256 of the model.
    """

    kind: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"] = "AUTOMATIC"
    name: str = "medseg"
    version: str = MEDSEG_VERSION
    model: str | None = None


@dataclass(frozen=True)
class SourceSeries:
    """A series that DICOM objects refer to.

    Attributes:
        path: folder or file of the series.
        slices: slices, sorted along their normal.
        headers: UIDs and geometry of each slice, without patient attributes.
        patient_study: patient and study attributes, copied to the object only.
        notes: UIDs that the series lacks; without attribute values.
    """

    path: Path
    slices: list[DicomSlice]
    headers: list[Dataset]
    patient_study: Dataset
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Any:
        """The header of the first slice."""
        return self.headers[0]


def read_source_series(path: Path, uneven: UnevenSlices = "refuse") -> SourceSeries:
    """Read the headers of a series.

    If the files have no UIDs of study, series or frame of reference, as in some de-identified series, UIDs are
    derived from those of the instances, so that all objects of a series agree.

    Args:
        path: folder or file of the series.
        uneven: handling of uneven or missing slices.

    Raises:
        DataError: the series cannot be read, is a multi-frame image, or its instances have no UIDs.
        GeometryError: the slices do not form one grid.
    """
    slices = series_slices(path, uneven)
    if any(one.frame is not None for one in slices):
        raise DataError(
            f"{path}: an enhanced multi-frame image; DICOM objects can be written for single-frame series only",
            hint="Convert the image, or omit --dicom.",
            path=path,
        )
    tags = [*_REQUIRED, *_OPTIONAL, *_IMAGE, "SpecificCharacterSet"]
    with disable_value_validation():  # invalid values are copied unchanged and not shown in a warning
        files = [pydicom.dcmread(s.path, stop_before_pixels=True, specific_tags=tags) for s in slices]
        headers = [_header(file, one, slices, path) for file, one in zip(files, slices, strict=True)]
        patient_study = _patient_study(files[0])
    instances = "|".join(header.SOPInstanceUID for header in headers)
    lacking: list[str] = []
    for keyword, name in _UIDS.items():
        uids = {str(file.get(keyword) or "") for file in files}
        if len(uids) > 1:
            raise DataError(
                f"{path}: slices with {len(uids)} different UIDs of the {name}; an object refers to one",
                path=path,
            )
        uid = UID(uids.pop())
        if not uid:
            uid = UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, keyword + instances).int}")
            lacking.append(name)
        for dataset in (*headers, patient_study) if keyword == "StudyInstanceUID" else headers:
            setattr(dataset, keyword, uid)
    notes = (f"the series has no UIDs of {', '.join(lacking)}; new ones were created",) if lacking else ()
    return SourceSeries(path, slices, headers, patient_study, notes)


def planes_on_slices(label_map: Array, grid: Grid, source: SourceSeries) -> Array:
    """Select the plane of a label map that belongs to each slice of a series.

    Args:
        label_map: (columns, rows, n) label values.
        grid: grid of the label map: that of the series, or the even grid to which the series was resampled.
        source: the series.

    Returns:
        (slices, rows, columns), the plane nearest to each slice.

    Raises:
        GeometryError: the slices are not on the grid.
    """
    corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1]], float)
    index: list[int] = []
    for one in source.slices:
        right, down = one.orientation[:3] * one.spacing[1], one.orientation[3:] * one.spacing[0]
        # the first pixel, and its neighbors along columns and rows
        lps = corners @ np.stack([right, down, one.position])
        placed = np.linalg.inv(grid.affine) @ LPS_TO_RAS @ np.vstack([lps.T, np.ones(3)])
        depth = round(float(placed[2, 0]))
        off = np.abs(placed[:2] - [[0, 1, 0], [0, 0, 1]]).max()
        if off > 0.1 or not 0 <= depth < grid.shape[2] or grid.shape[:2] != one.size[::-1]:
            raise GeometryError(
                f"{source.path}: the grid of the label map does not contain the slices of the series",
                path=source.path,
            )
        index.append(depth)
    return label_map[:, :, index].transpose(2, 1, 0)


def describe_object(dataset: Any, source: SourceSeries, what: str) -> None:
    """Set patient and study of the series, and the attributes common to all objects that medseg writes."""
    for element in source.patient_study:
        dataset.add(element)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SeriesDescription = f"medseg {what} ({RESEARCH_USE.split(',')[0].lower()})"
    dataset.SeriesNumber = series_number(source)
    now = datetime.now()
    dataset.SeriesDate, dataset.SeriesTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")


def series_number(source: SourceSeries) -> int:
    """Series number for objects, chosen beyond the numbers that series of a study usually have."""
    return 1000 + max(0, int(source.first.get("SeriesNumber") or 0)) % 1_000_000


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """Create an item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _header(file: Any, one: DicomSlice, slices: Sequence[DicomSlice], path: Path) -> Dataset:
    header: Any = Dataset()
    for keyword in _IMAGE:
        if keyword in file:
            header.add(file[keyword])
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        uid = str(file.get(keyword) or file.file_meta.get(f"MediaStorage{keyword}") or "")
        if not uid:
            raise DataError(f"{path}: a slice has no {keyword}; DICOM objects cannot refer to it", path=path)
        setattr(header, keyword, UID(uid))
    # identical for all slices, even if the files round them differently
    header.ImageOrientationPatient = [float(f"{v:.10g}") for v in slices[0].orientation]
    header.PixelSpacing = [float(f"{v:.10g}") for v in slices[0].spacing]
    header.Modality = file.get("Modality") or "OT"
    if not header.get("SliceThickness"):
        header.SliceThickness = _thickness(slices)
    for keyword in _REQUIRED:
        setattr(header, keyword, None)
    return header


def _thickness(slices: Sequence[DicomSlice]) -> float:
    if len(slices) == 1:
        return 1.0
    return float(f"{np.linalg.norm(slices[1].position - slices[0].position):.8g}")


def _patient_study(file: Any) -> Dataset:
    attributes = Dataset()
    for keyword in _REQUIRED:
        setattr(attributes, keyword, None)
    for keyword in (*_REQUIRED, *_OPTIONAL):
        if keyword in file:
            attributes.add(file[keyword])
    return attributes
