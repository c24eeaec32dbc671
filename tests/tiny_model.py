"""A tiny model with random weights, scans for it, and the content of folders.

A test module takes the fixtures by assignment: ``model, scans = tiny_model.model, tiny_model.scans``.
"""

import numpy as np
import pytest
import torch
from conftest import write_volume

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.inference.batch.options import BatchOptions
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.models import UNetConfig

LABELS = LabelSchema(names={"no": (0,), "a": (1,), "b": (2,)})
OVERWRITE = BatchOptions(overwrite=True)


def save_tiny(path, dims=3, seed=0, labels=LABELS):
    """A model file with random weights."""
    torch.manual_seed(seed)
    header = ModelHeader(
        spatial_dims=dims, channels=1, labels=labels, preprocess=PreprocessConfig(),
        inference=InferenceConfig(roi_size=(8,) * dims), model=UNetConfig(channels=(2, 4)),
        augmentation=TrainedAugmentation(mirror_axes=(0, 1)),
    )  # fmt: skip
    save_model(path, header, dict(header.model.build(header.task).state_dict()))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model's file."""
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def predictor(model):
    """The model on the CPU."""
    return Predictor(model, device="cpu", backend="torch", amp="off")


@pytest.fixture
def scans(tmp_path):
    """Three scans in a folder."""
    for i in range(3):
        voxels = np.random.default_rng(i).normal(0, 100, (10, 9, 8)).astype(np.int16)
        write_volume(tmp_path / "scans" / f"s{i}.nii.gz", voxels)
    return tmp_path / "scans"


def contents(folder):
    """The bytes of every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
