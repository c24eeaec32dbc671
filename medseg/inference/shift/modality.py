"""Refusal of scans of another modality than the training's."""

from __future__ import annotations

from medseg.data.preprocessing.modality import LOWEST_HU, standard_modality
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.inference.shift.fingerprint import TrainingFingerprint

_NOT_HU = -50.0
"""If no training case has a lower intensity, the training's intensities are not Hounsfield units: even scans
without air contain fat, at about -100."""
_HINT = "If the modality is declared wrongly, or the model is meant for it, use --force."


def check_modality(scan: Scan, fingerprint: TrainingFingerprint) -> None:
    """Check that a scan has the modality of the training cases.

    What file and training declare counts. If one of them declares nothing, intensities that are plainly
    Hounsfield units (below -500, as in air) are refused if the training's were not.

    Raises:
        DataError: the modality is another one.
    """
    declared, trained = standard_modality(scan.modality), fingerprint.modality
    if declared is not None and trained is not None:
        if declared != trained:
            raise DataError(
                f"{scan.path}: modality {declared}; the model was trained on {trained}",
                hint=_HINT,
                path=scan.path,
            )
        return
    if trained == "CT" or scan.kind != "volume" or len(scan.array) != 1:
        return
    lowest = float(scan.array.min())
    if lowest < LOWEST_HU and fingerprint.lowest >= _NOT_HU:
        raise DataError(
            f"{scan.path}: the intensities are Hounsfield units (the lowest is {lowest:g}), as in CT; "
            f"the model was trained on {trained or 'scans'} with intensities from {fingerprint.lowest:g}",
            hint=_HINT,
            path=scan.path,
        )
