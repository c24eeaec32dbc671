import numpy as np
import pytest
import torch

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.data.scans import Scan
from medseg.errors import ModelFileError
from medseg.geometry import Grid
from medseg.inference.model.ensemble.file import is_ensemble_file, load_ensemble, save_ensemble
from medseg.inference.model.model_file import LoadedModel, ModelHeader, load_model, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig


def tiny_model(path, seed):
    header = ModelHeader(
        spatial_dims=3, channels=1, labels=LabelSchema(names={"background": (0,), "liver": (6,)}),
        preprocess=PreprocessConfig(), inference=InferenceConfig(roi_size=(16, 16, 16)),
        model=UNetConfig(channels=(4, 8)),
    )  # fmt: skip
    torch.manual_seed(seed)
    digest = save_model(path, header, header.model.build(header.task).state_dict())
    return LoadedModel(*load_model(path)), digest


@pytest.fixture
def members(tmp_path):
    return [tiny_model(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1)]


def test_models_in_one_file_are_those_of_their_own_files(members, tmp_path):
    path = tmp_path / "model.safetensors"
    save_ensemble(path, [model for model, _ in members], {"folds": 2})
    assert is_ensemble_file(path)
    assert not is_ensemble_file(tmp_path / "0.safetensors")
    header, models = load_ensemble(path)
    assert header.training == {"folds": 2}
    assert [model.digest for model in models] == [digest for _, digest in members]
    for model, (original, _) in zip(models, members, strict=True):
        assert model.header == original.header
        assert all(torch.equal(model.tensors[name], tensor) for name, tensor in original.tensors.items())


def test_an_ensemble_file_predicts_as_the_files_of_its_members(members, tmp_path):
    path = tmp_path / "model.safetensors"
    save_ensemble(path, [model for model, _ in members], {})
    one, several = Predictor(path), Predictor([tmp_path / "0.safetensors", tmp_path / "1.safetensors"])
    assert Predictor(tmp_path).digest == one.digest == several.digest  # also as a folder
    scan = Scan(
        np.random.default_rng(0).normal(size=(1, 16, 16, 16)).astype(np.float32),
        Grid((16, 16, 16), np.eye(4)), "volume", tmp_path / "scan.nii.gz",
    )  # fmt: skip
    first, second = (predictor.predict(scan, probabilities=True) for predictor in (one, several))
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert one.members[1].path == path


def test_what_needs_one_model_refuses_an_ensemble(members, tmp_path):
    path = tmp_path / "model.safetensors"
    save_ensemble(path, [model for model, _ in members], {})
    with pytest.raises(ModelFileError, match="contains a medseg-ensemble, several models"):
        load_model(path)
