"""Arrays in the place of files: they need a spacing."""

import numpy as np
import pytest
import torch

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.data.scans import scan_from_array
from medseg.errors import DataError
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig


@pytest.fixture
def predictor(tmp_path):
    """A model with random weights for volumes of 1 mm."""
    torch.manual_seed(0)
    header = ModelHeader(
        spatial_dims=3, channels=1, labels=LabelSchema(names={"background": (0,), "ball": (1,)}),
        preprocess=PreprocessConfig(spacing=(1, 1, 1)), inference=InferenceConfig(roi_size=(8, 8, 8)),
        model=UNetConfig(channels=(2, 4)),
    )  # fmt: skip
    save_model(tmp_path / "model.safetensors", header, dict(header.model.build(header.task).state_dict()))
    return Predictor(tmp_path / "model.safetensors", device="cpu", backend="torch", amp="off")


def test_an_array_is_segmented_as_the_scan_that_it_is(predictor):
    volume = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    found = predictor.predict(volume, spacing=(1, 1, 2))
    assert found.scan.grid.spacing == (1, 1, 2)
    expected = predictor.predict(scan_from_array(volume, 3, (1, 1, 2))).label_map
    assert found.label_map.shape == volume.shape
    assert np.array_equal(found.label_map, expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((9, 8, 7)), r"a volume without spacing\. Pass spacing="),
        (torch.zeros(9, 8, 7), r"Tensor: expected a file, a Scan, a Case or a NumPy array with its spacing\."),
        ([[0]], "list: expected a file"),
    ],
)
def test_what_is_missing_is_said(predictor, source, message):
    with pytest.raises(DataError, match=message):
        predictor.predict(source)
