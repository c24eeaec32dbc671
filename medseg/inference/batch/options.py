"""Options of batch inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medseg.data.io.dicom.series import UnevenSlices

DicomKind = Literal["seg", "rtstruct"]
Layout = Literal["flat", "nnunet", "bids"]


@dataclass(frozen=True)
class BatchOptions:
    """Files written for each case, their layout, and the handling of existing results and of DICOM series.

    Attributes:
        probabilities: write ``probabilities/``, the probability of each class at each voxel.
        overlays: write ``overlays/``, PNG pictures of image and prediction.
        dicom: DICOM objects written to ``dicom/``; every case must be a DICOM series.
        layout: file layout of the label maps: ``flat`` (``CASE.nii.gz``), ``nnunet`` (``flat`` with
            ``dataset.json``) or ``bids`` (``sub-CASE/anat/sub-CASE_dseg.nii.gz``).
        overwrite: replace existing results of medseg. If a case fails, its earlier result remains only if it
            was made from the same input, models and settings. If False, such a result is skipped, and any
            other existing result is an error of its case.
        dicom_geometry: handling of DICOM series with uneven or missing slices: ``refuse`` them, or
            ``resample`` them to an even grid.

    Example:
        >>> BatchOptions(overlays=True).only_label_maps
        False
    """

    probabilities: bool = False
    overlays: bool = False
    dicom: tuple[DicomKind, ...] = ()
    layout: Layout = "flat"
    overwrite: bool = False
    dicom_geometry: UnevenSlices = "refuse"

    @property
    def only_label_maps(self) -> bool:
        """Whether no files besides the label maps are written."""
        return not (self.probabilities or self.overlays or self.dicom)


DEFAULTS = BatchOptions()
