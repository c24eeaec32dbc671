"""The series that a DICOM object refers to, and what every object made here says of itself.

Patient and study are copied from the series into the object and nowhere else: they stand apart from the
headers that other libraries are given, whose warnings show values.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medseg.data.io.dicom.series import DicomSlice, UnevenSlices, series_slices
from medseg.data.labels.schema import Color
from medseg.data.labels.terminology import TerminologyCode
from medseg.errors import DataError, GeometryError
from medseg.geometry import LPS_TO_RAS, Array, Grid

_UIDS = {
    "StudyInstanceUID": "study",
    "SeriesInstanceUID": "series",
    "FrameOfReferenceUID": "frame of reference",
}
MEDSEG_VERSION = version("medseg")
RESEARCH_USE = "Research use only, not for diagnosis"

# PS3.3: Patient, Clinical Trial Subject, General Study and Patient Study. Those that must be there come first.
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
    """One label of an object: its name, its values in the label map, its coded term and color."""

    name: str
    values: tuple[int, ...]
    code: TerminologyCode
    color: Color

    @property
    def text(self) -> str:
        """The name as DICOM's short texts take it."""
        return self.name.replace("\\", " ")[:64]


@dataclass(frozen=True)
class Maker:
    """How a label map was made.

    Attributes:
        kind: as in PS3.3 (0062,0008).
        algorithm, version: what made it; of no interest where it was drawn by hand.
        model: the SHA-256 of the model.
    """

    kind: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"] = "AUTOMATIC"
    algorithm: str = "medseg"
    version: str = MEDSEG_VERSION
    model: str | None = None


@dataclass(frozen=True)
class SourceSeries:
    """A series as objects refer to it.

    Attributes:
        slices: sorted along their normal.
        headers: of each slice: UIDs and geometry, nothing of the patient.
        owner: patient and study, for the object alone.
        notes: what the series lacked, without a value of it.
    """

    slices: list[DicomSlice]
    headers: list[Dataset]
    owner: Dataset
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Any:
        """The header of the first slice."""
        return self.headers[0]


def read_source(path: Path, uneven: UnevenSlices = "refuse") -> SourceSeries:
    """Read the headers of the series at ``path``.

    UIDs of study, series and frame of reference that the files lack (some de-identified series do) are made
    of those of the instances, so that all objects of one series agree.
    Raises: DataError or GeometryError as reading the series does; DataError if its instances have no UIDs.
    """
    slices = series_slices(path, uneven)
    if any(one.frame is not None for one in slices):
        raise DataError(
            f"{path}: an enhanced multi-frame image; DICOM objects are written for series of single-frame "
            "slices only. Convert it, or leave out --dicom."
        )
    tags = [*_REQUIRED, *_OPTIONAL, *_IMAGE, "SpecificCharacterSet"]
    with disable_value_validation():  # a value against the rules is copied as it is, and not shown in a warning
        files = [pydicom.dcmread(s.path, stop_before_pixels=True, specific_tags=tags) for s in slices]
        headers = [_header(file, one, slices, path) for file, one in zip(files, slices, strict=True)]
        owner = _owner(files[0])
    instances = "|".join(header.SOPInstanceUID for header in headers)
    lacking: list[str] = []
    for keyword, name in _UIDS.items():
        found = {str(file.get(keyword) or "") for file in files}
        if len(found) > 1:
            raise DataError(f"{path}: its slices name several {name}s; an object can refer to one only")
        uid = UID(found.pop())
        if not uid:
            uid = UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, keyword + instances).int}")
            lacking.append(name)
        for dataset in (*headers, owner) if keyword == "StudyInstanceUID" else headers:
            setattr(dataset, keyword, uid)
    notes = (f"the series names no {', '.join(lacking)}: made new ones",) if lacking else ()
    return SourceSeries(slices, headers, owner, notes)


def planes_of(label_map: Array, grid: Grid, slices: Sequence[DicomSlice]) -> Array:
    """The label map's planes under the slices: (slices, rows, columns).

    The map (columns, rows, n) lies on the series' grid, or on the even one it was read onto; then a slice has
    the nearest plane.
    Raises: GeometryError if the slices lie elsewhere.
    """
    corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1]], float)
    index: list[int] = []
    for one in slices:
        right, down = one.orientation[:3] * one.spacing[1], one.orientation[3:] * one.spacing[0]
        lps = corners @ np.stack(
            [right, down, one.position]
        )  # the first pixel, its neighbors along columns and rows
        placed = np.linalg.inv(grid.affine) @ LPS_TO_RAS @ np.vstack([lps.T, np.ones(3)])
        depth = round(float(placed[2, 0]))
        off = np.abs(placed[:2] - [[0, 1, 0], [0, 0, 1]]).max()
        if off > 0.1 or not 0 <= depth < grid.shape[2] or grid.shape[:2] != one.size[::-1]:
            raise GeometryError("the label map does not lie on the slices of the series")
        index.append(depth)
    return label_map[:, :, index].transpose(2, 1, 0)


def describe_object(dataset: Any, source: SourceSeries, what: str) -> None:
    """Patient and study of the series, and what is the same in every object made here."""
    for element in source.owner:
        dataset.add(element)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SeriesDescription = f"medseg {what} ({RESEARCH_USE.split(',')[0].lower()})"
    dataset.SeriesNumber = series_number(source)
    now = datetime.now()
    dataset.SeriesDate, dataset.SeriesTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")


def series_number(source: SourceSeries) -> int:
    """A number for a series of objects, beyond those of the study's own ones as far as can be told."""
    return 1000 + max(0, int(source.first.get("SeriesNumber") or 0)) % 1_000_000


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
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
            raise DataError(f"{path}: a slice has no {keyword}, by which an object could refer to it")
        setattr(header, keyword, UID(uid))
    # of all slices exactly the same, where the files round them differently
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


def _owner(file: Any) -> Dataset:
    owner = Dataset()
    for keyword in _REQUIRED:
        setattr(owner, keyword, None)
    for keyword in (*_REQUIRED, *_OPTIONAL):
        if keyword in file:
            owner.add(file[keyword])
    return owner
