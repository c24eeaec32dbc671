"""``Interactive``: what a model does to the process that opens it."""

import numpy as np
import pytest
import torch

from medseg import Interactive
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import DataError
from medseg.inference.interactive import interactive
from medseg.inference.model.model_file import OBJECT_LABELS, LoadedModel, ModelHeader
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig
from medseg.prompts.options import PromptTask


@pytest.fixture
def model():
    header = ModelHeader(
        spatial_dims=3,
        channels=2,
        labels=OBJECT_LABELS,
        prompts=PromptTask(),
        preprocess=PreprocessConfig(normalize=Range(low=0, high=1)),
        inference=InferenceConfig(roi_size=(8, 8, 8)),
        model=UNetConfig(channels=(2, 4)),
    )
    torch.manual_seed(0)
    return LoadedModel(header, header.model.build(header.task).state_dict(), "")


def test_freed_memory_is_kept_on_a_cpu(model, monkeypatch):
    kept = []
    monkeypatch.setattr(interactive, "keep_freed_memory", lambda: kept.append(True))
    session = Interactive(model, device="cpu").open(np.zeros((2, 12, 10, 9), np.float32), (1.0, 1.0, 1.0))
    assert kept == [True]
    assert session.point((6, 5, 4)).shape == (12, 10, 9)


def test_channels_last_is_explained(model):
    with pytest.raises(DataError, match=r"has 12 channels, expected 2. .* \(C, X, Y, Z\): np\.moveaxis"):
        Interactive(model, device="cpu").open(np.zeros((12, 10, 9, 2), np.float32), (1.0, 1.0, 1.0))
    with pytest.raises(DataError, match=r"has 3 channels, expected 2$"):
        Interactive(model, device="cpu").open(np.zeros((3, 12, 10, 9), np.float32), (1.0, 1.0, 1.0))
