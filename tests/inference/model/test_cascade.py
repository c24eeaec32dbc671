"""Cascades at inference: the second stage receives the segmentation of the first, wherever its grid lies."""

import numpy as np
import pytest
import torch
from conftest import write_volume
from torch import nn

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError
from medseg.inference.model.cascade import join_stages
from medseg.inference.model.model_file import LoadedModel, ModelHeader, load_model, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.interop.export import export_model
from medseg.models import CustomModelConfig, UNetConfig

LABELS = LabelSchema(names={"no": (0,), "left": (1,), "right": (5,)}, pairs=(("left", "right"),))


class Copy(nn.Module):
    """Logits that are the masks of the input; the image has no influence."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        masks = x[:, -2:]
        return torch.cat([torch.full_like(masks[:, :1], 0.5), masks], dim=1) * self.weight


def header_of(model, spacing, first_stages=()):
    return ModelHeader(
        spatial_dims=3,
        channels=1,
        labels=LABELS,
        preprocess=PreprocessConfig(spacing=spacing, normalize=Range(low=0, high=1)),
        inference=InferenceConfig(roi_size=(8, 8, 8), overlap=0.25),
        model=model,
        augmentation=TrainedAugmentation(mirror_axes=(0, 1, 2)),
        first_stages=first_stages,
    )


def first_stage(seed):
    header = header_of(UNetConfig(channels=(4, 8)), (2.0, 2.0, 2.0))
    torch.manual_seed(seed)
    return LoadedModel(header, dict(header.model.build(header.task).state_dict()), f"digest{seed}")


@pytest.fixture(scope="module")
def stages():
    return [first_stage(3), first_stage(4)]


@pytest.fixture(scope="module")
def cascade(tmp_path_factory, stages):
    """A model file whose second stage copies the segmentation of the first, on the grid of the scan."""
    path = tmp_path_factory.mktemp("cascade") / "model.safetensors"
    header = header_of(CustomModelConfig(class_name="Copy"), None, tuple(one.header for one in stages))
    save_model(path, header, join_stages(Copy().state_dict(), stages))
    return path


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A volume whose axes run to the posterior, right and inferior, with different spacings."""
    affine = np.array([[0, 1.5, 0, -9], [-1.0, 0, 0, 20], [0, 0, -2.5, 5], [0, 0, 0, 1]])
    voxels = np.random.default_rng(0).normal(size=(21, 9, 13)).astype(np.float32)
    return write_volume(tmp_path_factory.mktemp("scan") / "s.nii.gz", voxels, affine)


def test_the_second_stage_receives_the_mean_segmentation_of_the_first(cascade, stages, scan):
    first = Predictor(stages, amp="off").predict(scan)
    assert set(np.unique(first.label_map)) == {0, 1, 5}
    both = Predictor(cascade, model=Copy(), amp="off").predict(scan)
    assert np.array_equal(both.label_map, first.label_map)
    assert np.array_equal(both.scan.grid.affine, first.scan.grid.affine)


def test_mirrored_windows_have_mirrored_masks(cascade, stages, scan):
    settings = {"flips": [0, 1]}
    first = Predictor(stages, amp="off", settings=settings).predict(scan)
    both = Predictor(cascade, model=Copy(), amp="off", settings=settings).predict(scan)
    assert np.array_equal(both.label_map, first.label_map)


def test_settings_of_one_stage(cascade):
    predictor = Predictor(cascade, model=Copy(), settings={"overlap": 0.5, "roi_size": [10, 10, 10]})
    first, second = predictor.members[0].settings
    assert (first.overlap, first.roi_size) == (0.5, (8, 8, 8))
    assert (second.overlap, second.roi_size) == (0.5, (10, 10, 10))


def test_the_file_holds_both_stages(cascade, stages):
    header, tensors, _ = load_model(cascade)
    assert header.task.in_channels == 1 + 2
    assert [one.preprocess.spacing for one in header.first_stages] == [(2, 2, 2)] * 2
    name = next(iter(stages[1].tensors))
    assert torch.equal(tensors[f"first_stage.1.{name}"], stages[1].tensors[name])
    member = Predictor(cascade, model=Copy()).members[0]
    assert len(set(member.stage_digests)) == 2


def test_a_cascade_is_not_exported(cascade, tmp_path):
    with pytest.raises(ConfigError, match="the model is a cascade"):
        export_model(cascade, tmp_path / "model.pt2", "torch", model=Copy())
