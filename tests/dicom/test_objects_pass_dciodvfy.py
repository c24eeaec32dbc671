"""DICOM objects as the checkers of dicom3tools see them, which share no code with medseg."""

import shutil
import subprocess

import numpy as np
import pytest
from series import turned, write_dicom

from medseg.data.labels.schema import LabelSchema
from medseg.dicom.source_series import SegmentAlgorithm, read_source_series
from medseg.inference.batch.outputs.dicom_objects import build_objects, instance_segments, label_segments
from medseg.instances.result import Instances

pytestmark = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed"
)

VALID = {"PatientName": "Doe^Jane", "PatientBirthDate": "19700101", "ReferringPhysicianName": "Roe^Ann",
         "StudyTime": "101112", "StudyID": "1", "AccessionNumber": "A1"}  # fmt: skip
LABELS = LabelSchema(names={"background": (0,), "tumor": (1,), "left kidney": (2,), "a thing " * 9: (3,)})
REGIONS = LabelSchema(
    names=LABELS.names, regions={"whole": ("tumor", "left kidney"), "core": ("tumor",)}
)  # which overlap
IODS = {"seg": "Segmentation", "rtstruct": "RTStructureSet"}


def contents(shape):
    """Return what is exported: label values or numbers of objects (slices, rows, columns), and segments."""
    planes = np.zeros(shape, np.uint16)
    planes[:, 2:6, 2:6] = 1
    planes[:, 10:14, 3:9] = 2
    planes[:, 11, 4] = 0  # a hole
    planes[0, 20, 20] = 1  # a single pixel
    numbers = np.zeros(shape, np.uint16)
    numbers[:, ::4, ::4] = np.arange(shape[0] * 6 * 8).reshape(shape[0], 6, 8) % 300 + 1
    numbers[:, 0:3, 0:3] = 1  # at the border, around others
    found = Instances.from_label_map(numbers, np.arange(numbers.max()) % 3 + 1)
    return {
        "labels": (planes, label_segments(LABELS)),
        "regions": (planes, label_segments(REGIONS)),
        "objects": (found.label_map(), instance_segments(found, LABELS)),
        "nothing": (planes * 0, label_segments(LABELS)),
    }


@pytest.mark.parametrize("slices", [1, 7])
def test_no_errors_and_no_warnings(tmp_path, slices):
    shape = (slices, 24, 32)
    folder = write_dicom(tmp_path / "series", np.zeros(shape), orientation=turned(25, 10), **VALID)
    source, model = read_source_series(folder), "ab" * 32
    ways = [SegmentAlgorithm(model=model), SegmentAlgorithm("SEMIAUTOMATIC"), SegmentAlgorithm("MANUAL")]
    written = []
    for name, (planes, segments) in contents(shape).items():
        for way in ways if name == "labels" else ways[:1]:
            for kind, made in build_objects(["seg", "rtstruct"], planes, segments, source, way).items():
                written.append(tmp_path / f"{name}_{way.kind}.{kind}.dcm")
                made.save_as(written[-1], enforce_file_format=True)
                assert check("dciodvfy", "-new", written[-1]) == [IODS[kind]]
    assert len(written) == 12
    # attributes of patient, study and frame of reference are those of the series
    assert check("dcentvfy", *folder.iterdir(), *written) == []


def check(*command):
    """Return the lines that a checker prints: the kind of object, errors and warnings."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
    return (done.stdout + done.stderr).splitlines()
