"""Saved labels as DICOM SEG in the DICOMweb service that the image comes from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Protocol

import pydicom

from medseg.data.labels.schema import LabelSchema
from medseg.dicom.segmentation import require_highdicom
from medseg.dicom.source_series import SegmentAlgorithm
from medseg.errors import DataError
from medseg.inference.batch.outputs.dicom_objects import DicomExport, export_label_map
from medseg.server.datastore.versions import LabelVersion


class StoreClient(Protocol):
    """The part of ``dicomweb_client.DICOMwebClient`` that is used."""

    def store_instances(self, datasets: list[Any], /) -> Any:
        """Store objects (STOW-RS)."""
        ...


class SegSender:
    """Stores label maps as DICOM SEG objects, each as a new series of the image's study.

    Args:
        client: the service.

    Raises:
        ConfigError: highdicom is not installed.
    """

    def __init__(self, client: StoreClient) -> None:
        require_highdicom()
        self._client = client

    def send(self, series: Path, version: LabelVersion, labels: LabelSchema) -> None:
        """Send a label map.

        Args:
            series: folder of the DICOM series on whose grid it lies.
            version: the label map.
            labels: its labels.

        Raises:
            DataError: the object cannot be made, or the service does not accept it.
            GeometryError: the label map has another grid than the series.
        """
        if version.path is None:
            return
        kind = "SEMIAUTOMATIC" if version.record.get("models") else "MANUAL"
        with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
            path = Path(folder) / "label.dcm"
            export_label_map(version.path, series, path, DicomExport("seg", labels, SegmentAlgorithm(kind)))
            try:
                self._client.store_instances([pydicom.dcmread(path)])
            except Exception as error:  # requests and pydicom raise errors of many kinds
                raise DataError(
                    f"the DICOMweb service does not accept the segmentation ({type(error).__name__})"
                ) from error
