"""NaN and infinite logits, skipped windows, shared networks, and mirrors that the training did not use."""

import json

import numpy as np
import pytest
import torch
from conftest import ball_settings, write_picture, write_volume
from torch import nn

from medseg.cli.main import run
from medseg.config.schema import load_config
from medseg.data.augmentation import augmentation_preset
from medseg.data.cases import Case
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, ModelFileError, NumericalError
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.model.model_file import LoadedModel, ModelHeader, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.finite_checks import check_logits
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.models import CustomModelConfig, UNetConfig
from medseg.training.fit import fit

LABELS = LabelSchema(names={"none": (0,), "a": (1,), "b": (5,)})
REGIONS = LabelSchema(names={"none": (0,), "a": (1,), "b": (5,)}, regions={"whole": ("a", "b"), "core": ("b",)})
NONE = TrainedAugmentation()


def header(labels=LABELS, dims=3, network=None, seen=NONE, spacing=None, **inference):
    return ModelHeader(
        spatial_dims=dims,
        channels=1,
        labels=labels,
        preprocess=PreprocessConfig(spacing=spacing, normalize=Range(low=0, high=1)),
        inference=InferenceConfig(**{"roi_size": (8,) * dims, "overlap": 0.25, **inference}),
        model=network or UNetConfig(channels=(2, 4)),
        augmentation=seen,
    )


def model(seed=0, scaled=1.0, **facts):
    about = header(**facts)
    torch.manual_seed(seed)
    state = dict(about.model.build(about.task).state_dict())
    return LoadedModel(about, {name: t * scaled for name, t in state.items()}, f"digest{seed}")


@pytest.fixture
def scan(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(20, 9, 11)).astype(np.float32)
    return write_volume(tmp_path / "scan.nii.gz", voxels)


class Pointwise(nn.Module):
    """One convolution without a norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 1)

    def forward(self, image):
        return self.conv(image)


def pointwise(bias, weight=0.0, seed=0, **facts):
    about = header(network=CustomModelConfig(class_name="Pointwise"), **facts)
    tensors = {"conv.weight": torch.full((3, 1, 1, 1, 1), weight), "conv.bias": torch.tensor(bias)}
    return LoadedModel(about, tensors, f"pointwise{seed}")


def test_a_model_with_a_nan_weight_is_an_error():
    damaged = model()
    damaged.tensors[next(name for name in damaged.tensors if name.endswith("bias"))].view(-1)[0] = torch.nan
    with pytest.raises(ModelFileError, match=r"1 of \d+ weights hold NaN .*, the first is .*bias"):
        Predictor(damaged)


@pytest.mark.parametrize("probabilities", [False, True])
def test_logits_beyond_float16_fail_the_case_and_the_batch_continues(scan, tmp_path, probabilities):
    one = pointwise([0.0, 40000.0, 0.0], weight=60000.0)  # more than 65504 together
    quiet = write_volume(tmp_path / "quiet.nii.gz", np.zeros((9, 9, 9), np.float32))
    loud = write_volume(tmp_path / "loud.nii.gz", np.full((9, 9, 9), 500, np.float32))
    predictor = Predictor(one, model=Pointwise(), device="cpu", amp="fp16", backend="torch")
    with pytest.raises(NumericalError, match=r"loud.nii.gz: .* computed by torch in float16\. .*--amp off"):
        predictor.predict(loud, probabilities=probabilities)
    cases = [Case("loud", loud), Case("quiet", quiet)]
    outcomes = infer_cases(predictor, cases, tmp_path / "out")
    assert [one.status for one in outcomes] == ["failed", "done"]
    assert not (tmp_path / "out" / "loud.nii.gz").exists()
    exact = Predictor(one, model=Pointwise(), device="cpu", amp="off", backend="torch").predict(loud)
    assert (exact.label_map == 1).all()


def test_the_hint_depends_on_the_backend():
    class BackendInfo:
        backend, precision = "openvino", "float32"

    with pytest.raises(NumericalError, match="--backend torch"):
        check_logits(torch.tensor([1.0, torch.inf]), "case", BackendInfo())
    BackendInfo.backend = "torch"
    with pytest.raises(NumericalError, match="damaged"):
        check_logits(torch.tensor([1.0, torch.nan]), "case", BackendInfo())
    assert NumericalError.exit_code == 2
    check_logits(torch.full((10,), 3e38), "case", BackendInfo())  # its sum is infinite, its elements are not


def test_skipped_windows_contain_no_lesion(scan, tmp_path):
    one = model(labels=REGIONS)
    assert not Predictor(one, settings={"skip_below": 1e6}).predict(scan).label_map.any()
    steps = {"skip_below": 1e6, "postprocess": {"largest": ["core"]}}
    assert not Predictor(one, settings=steps).predict(scan).label_map.any()
    picture = write_picture(tmp_path / "p.png", np.full((13, 17), 40, np.uint8))
    flat = model(labels=REGIONS, dims=2)
    assert not Predictor(flat, settings={"skip_below": 200}).predict(picture).label_map.any()
    with pytest.raises(TypeError, match="bool"):
        REGIONS.paint(np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(TypeError, match="integer class indices"):
        LABELS.decode(np.zeros((3, 3), bool))


def test_members_with_one_custom_network_have_separate_weights(scan):
    network = Pointwise()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    files = [pointwise([3.0, 0.0, 0.0]), pointwise([0.0, 4.0, 0.0], seed=1)]
    first, second = (Predictor(one, model=network, amp="off") for one in files)
    assert not first.predict(scan).label_map.any()  # not the second's weights
    assert (second.predict(scan).label_map == 1).all()
    found = Predictor(files, model=network, amp="off").predict(scan, probabilities=True).probabilities
    expected = torch.tensor([[3.0, 0, 0], [0, 4.0, 0]]).softmax(dim=1).mean(dim=0)
    np.testing.assert_allclose(found[:, 0, 0, 0], expected, rtol=1e-5)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_background_has_probability_1_where_no_window_ran(tmp_path):
    voxels = np.full((40, 9, 9), -1000, np.float32)
    voxels[:8] = np.random.default_rng(0).normal(size=(8, 9, 9))
    path = write_volume(tmp_path / "air.nii.gz", voxels)
    for labels, outside in ((LABELS, [1, 0, 0]), (REGIONS, [0, 0])):
        for spacing in (None, (2, 1, 1)):
            one = model(labels=labels, spacing=spacing, skip_below=-900)
            found = Predictor(one, amp="off").predict(path, probabilities=True)
            np.testing.assert_allclose(found.probabilities[:, 30, 4, 4], outside, atol=1e-6)
            assert not found.label_map[24:].any()
            if labels is LABELS:
                np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    empty = Predictor(model(skip_below=1e6)).predict(path, probabilities=True).probabilities
    assert (empty[0] == 1).all()
    assert not empty[1:].any()


def test_a_member_that_skips_all_windows_predicts_background(tmp_path, scan):
    files = [pointwise([0.0, 1.0, 0.0], skip_below=1e6), pointwise([0.0, 1.0, 0.0], seed=1)]
    found = Predictor(files, model=Pointwise(), amp="off").predict(scan, probabilities=True).probabilities
    ran = torch.tensor([0.0, 1.0, 0.0]).softmax(dim=0)
    expected = (torch.tensor([1.0, 0, 0]) + ran) / 2
    np.testing.assert_allclose(found[:, 3, 3, 3], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_gaussian_member_before_an_exact_one(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(9, 13, 60)).astype(np.float32)
    long = write_volume(tmp_path / "long.nii.gz", voxels)
    batch = UNetConfig(channels=(2, 4), norm="batch")
    gaussian = model(1, network=batch)
    exact = model(2, network=batch, blend="exact", roi_size=(24, 24, 24))
    one, two = (Predictor([gaussian, exact][::step], amp="off") for step in (1, -1))
    found, other = (p.predict(long, probabilities=True).probabilities for p in (one, two))
    np.testing.assert_allclose(found, other, atol=1e-6)


def test_members_with_different_postprocessing_are_rejected(scan):
    plain, largest = model(1), model(2, postprocess={"largest": ("a", "b")})
    with pytest.raises(ConfigError, match=r"inference.postprocess: .* --set postprocess="):
        Predictor([plain, largest])
    together = Predictor([plain, largest], settings={"postprocess": {"largest": ["a"]}})
    assert {m.header.inference.postprocess.largest for m in together.members} == {("a",)}
    Predictor([largest, model(3, postprocess={"largest": ("b", "a")})])  # the same steps
    with pytest.raises(ConfigError, match=r"inference\.level"):
        Predictor([model(1, dims=2), model(2, dims=2, level=1)])


def test_flips_that_the_training_did_not_use_are_rejected(scan):
    with pytest.raises(ConfigError, match=r"mirrored along the axes \[\], not along \[0, 1, 2\].*--force"):
        Predictor(model(), settings={"flips": [0, 1, 2]})
    Predictor(model(), settings={"flips": [0, 1, 2]}, force=True).predict(scan)
    some = TrainedAugmentation(mirror_axes=(0, 1), scale=(0.7, 1.4))
    Predictor(model(seen=some), settings={"flips": [1]})
    Predictor(model(seen=some, dims=2), settings={"scales": [0.7, 1.4]})
    with pytest.raises(ConfigError, match=r"magnifications from 0.7 to 1.4; \[2.0\] are outside"):
        Predictor(model(seen=some, dims=2), settings={"scales": [1.2, 2.0]})
    older = model(seen=None, flips=(1,))
    Predictor(older)  # its own settings
    with pytest.raises(ConfigError, match=r"did not record .* its own settings are flips=\[1\]"):
        Predictor(older, settings={"flips": [0, 1]})
    Predictor(older, settings={"flips": [0, 1]}, force=True)


def test_trained_augmentation_of_a_configuration():
    assert TrainedAugmentation.of(augmentation_preset("3d")) == TrainedAugmentation(
        rotate=20, scale=(0.8, 1.25)
    )
    assert TrainedAugmentation.of(augmentation_preset("2d")).mirror_axes == (0, 1)
    assert TrainedAugmentation.of(augmentation_preset("none")) == TrainedAugmentation()
    never = load_config({"augment": {"flip": {"axes": [0], "probability": 0}}}).augment
    assert TrainedAugmentation.of(never).mirror_axes == ()


def test_a_trained_model_records_its_flips_and_a_training_rejects_others(balls, tmp_path):
    settings = ball_settings(balls, epochs=1, iterations=1)
    with pytest.raises(ConfigError, match=r"inference.flips=\[1\].*augment.flip.axes"):
        fit(load_config(settings | {"inference": {"flips": [1]}}), tmp_path / "refused")
    settings["augment"] = {"flip": {"axes": [1], "probability": 0.5}}
    folder = fit(load_config(settings), tmp_path / "run").run
    assert Predictor(folder, settings={"flips": [1]}).header.augmentation.mirror_axes == (1,)
    with pytest.raises(ConfigError, match="flips"):
        Predictor(folder, settings={"flips": [0]})


def test_force_on_the_command_line(scan, tmp_path, capsys):
    one = model()
    save_model(tmp_path / "m.safetensors", one.header, one.tensors)
    command = ["infer", str(scan), "--model", str(tmp_path / "m.safetensors"), "--set", "flips=[0]"]
    assert run([*command, "--output", str(tmp_path / "out")]) == 2
    assert "--force" in capsys.readouterr().err
    assert run([*command, "--output", str(tmp_path / "out"), "--force"]) == 0
    record = json.loads((tmp_path / "out" / "provenance" / "scan.json").read_text())
    assert record["inference"]["flips"] == [0]
