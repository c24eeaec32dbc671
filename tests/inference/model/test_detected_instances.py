"""Objects of a detector on the grid of a scan."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from conftest import write_volume

from medseg.data.io.readers import read_scan
from medseg.data.preprocessing.pipeline import PreprocessConfig, prepare_image
from medseg.inference.model.instance_prediction import detect_instances
from medseg.inference.options import InferenceConfig
from medseg.models.detection import Detections, Detector


class Covered(Detector):
    """Finds an object, and a less likely one within it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def detect(self, images):
        boxes = torch.tensor([[1.0, 1, 1, 7, 7, 7], [2, 2, 2, 5, 5, 5]])
        masks = torch.ones(2, 2, 2, 2)
        size = tuple(images.shape[2:])
        return [Detections(boxes, torch.tensor([1, 2]), torch.tensor([0.9, 0.6]), masks, size)]


def test_a_covered_object_of_a_volume_is_left_out(tmp_path):
    scan = read_scan(write_volume(tmp_path / "a.nii.gz", np.zeros((8, 8, 8)), np.diag([1.0, 1, 3, 1])))
    header = SimpleNamespace(inference=InferenceConfig(), preprocess=PreprocessConfig())
    member: Any = SimpleNamespace(network=Covered().eval(), header=header)
    prepared: Any = SimpleNamespace(inputs=(prepare_image(scan, PreprocessConfig(), 1),), scan=scan)
    found = detect_instances([member], prepared, None)
    assert found.classes.tolist() == [1]
    assert found.sizes.tolist() == [6 * 6 * 6 * 3.0]
