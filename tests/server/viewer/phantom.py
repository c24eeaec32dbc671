"""An asymmetric phantom as DICOM series in three orientations and two orders of slices, and its model."""

from types import SimpleNamespace

import numpy as np
from series import AXIAL, write_dicom

from medseg.data.labels.schema import LabelSchema
from medseg.inference.model.prediction import Prediction
from medseg.server.models import AutomaticModel

LABELS = LabelSchema(names={"background": (0,), "phantom": (1,)})
ORIENTATIONS = {
    "axial": AXIAL,
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "sagittal": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
}
SHAPE = (16, 48, 40)
"""Slices, rows, columns."""


def phantom_mask():
    """Two boxes without any symmetry, (slices along the normal, rows, columns)."""
    mask = np.zeros(SHAPE, bool)
    mask[3:13, 8:30, 8:17] = True
    mask[3:8, 22:30, 17:32] = True
    return mask


def write_phantom(folder, orientation, *, descending):
    """Write the phantom as series; ``descending``: instance numbers run against the normal of the slices."""
    slices = phantom_mask().astype(np.int16) * 1000
    heights = [2.0 * i for i in range(len(slices))]
    if descending:
        slices, heights = slices[::-1], heights[::-1]
    return write_dicom(
        folder, slices, orientation=ORIENTATIONS[orientation], spacing=(1.0, 1.25), heights=heights,
        SliceThickness=2.0, WindowCenter=500, WindowWidth=1000, RescaleIntercept=0, RescaleSlope=1,
        SeriesDescription=orientation, PatientBirthDate="19700101",
    )  # fmt: skip


class Threshold:
    """Marks what is brighter than 500."""

    digest = "t" * 64
    header = SimpleNamespace(labels=LABELS, spatial_dims=3, preprocess=None)

    def prepare(self, scan):
        return scan

    def run(self, scan, probabilities=False):
        return Prediction((scan.array[0] > 500).astype(np.uint8), None, scan)


def threshold_model():
    """The model for a server."""
    return AutomaticModel("threshold", Threshold())
