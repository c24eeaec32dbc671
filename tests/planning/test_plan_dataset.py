"""Plans of whole datasets; the timer is fake but for one test."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import write_picture

from medseg.config.schema import load_config
from medseg.errors import ConfigError
from medseg.instances.options import SemanticTask
from medseg.planning.describe import describe_settings
from medseg.planning.draft import Draft
from medseg.planning.fingerprint import ClassFingerprint, Fingerprint
from medseg.planning.measured.machine import Machine
from medseg.planning.measured.step_timer import StepCost, StepTimer, network_config
from medseg.planning.plan import PlanRequest, _Planner, fit_levels, plan_config, plan_dataset
from medseg.planning.plan_file import format_plan
from medseg.planning.topology import build_topology
from medseg.task import Task


class FakeTimer:
    """Every update takes the same time."""

    def __init__(self, seconds=0.5):
        self.seconds = seconds
        self.measured = []

    def measure(self, candidate):
        self.measured.append(candidate)
        return StepCost(self.seconds)


CPU = PlanRequest(minutes=20, device="cpu")


def test_volumes(balls):
    plan = plan_dataset(balls, request=CPU, timer=FakeTimer())
    config = plan.config
    assert config.spatial_dims == 3
    assert config.sampling.patch_size == (20, 20, 20)
    assert config.preprocess.spacing is None
    assert config.preprocess.normalize.name == "zscore"
    assert config.model.channels == (16, 32, 64)
    assert config.train.batch_size == 2
    assert config.data.path == balls.resolve()
    # 0.8 · 1200 s in updates of 0.5 s: 19 epochs of 100
    assert (config.train.epochs, config.train.iterations, config.train.validate_every) == (19, 100, 1)
    assert config.train.ema == pytest.approx(1 - 10 / 1920, abs=1e-4)
    assert config.train.device == "cpu"


def test_pictures(squares):
    plan = plan_dataset(squares, request=CPU, timer=FakeTimer(1.0))
    assert plan.config.spatial_dims == 2
    assert plan.config.sampling.patch_size == (32, 40)
    assert plan.fingerprint.modality == "color"
    assert plan.config.inference.max_roi_size == (1024, 1024)


def write_lines(folder):
    """Pictures with thin lines that are numbered."""
    lines = np.zeros((64, 64), np.uint8)
    lines[8::16, 4:60] = 1
    for number in range(4):
        image = lines * 150 + np.random.default_rng(number).integers(0, 50, lines.shape).astype(np.uint8)
        write_picture(folder / "images" / f"{number}.png", image)
        write_picture(folder / "labels" / f"{number}.png", lines * np.arange(1, 65)[:, None].astype(np.uint8))
    return folder


def test_the_plan_suits_the_task(tmp_path):
    """Mirror images were planned for networks that cannot use them, and their plans failed."""
    data = write_lines(tmp_path / "lines")

    def plan(*overrides):
        return plan_dataset(data, overrides, CPU, timer=FakeTimer()).config

    assert plan("data.labels.instances=foreground").inference.flips
    assert plan("data.labels.instances=foreground", "task.name=prompts").inference.flips == ()
    assert plan("data.instances=keep", "task.name=prompts").task.name == "prompts"
    for detector in ("maskrcnn", "retina_unet"):
        config = plan("data.instances=keep", f"model.name={detector}")
        assert (config.model.name, config.task.decoder, config.inference.flips) == (detector, "boxes", ())


def test_slices_of_volumes(balls):
    config = plan_dataset(balls, ["spatial_dims=2"], CPU, timer=FakeTimer()).config
    assert config.preprocess.slices.axis == 2
    assert config.preprocess.slices.neighbors == 1
    assert len(config.sampling.patch_size) == 2


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "deep"),
    [
        ("[8, 16]", [[3, 3, 1], 3], [1, [2, 2, 1]], 0),
        ("[8, 16, 16, 16]", [[3, 3, 1], 3, 3, 3], [1, [2, 2, 1], 2, 2], 1),
    ],
)
def test_kernels_and_strides_follow_the_levels_of_the_user(channels, kernel, stride, deep):
    draft = Draft()
    planned = {"channels": [16, 32, 64], "kernel": [[3, 3, 1], 3, 3], "stride": [1, [2, 2, 1], 2]}
    draft.set("model", {**planned, "deep_supervision": 1})
    fit_levels(draft, ["train.epochs=3", f"model.channels={channels}"])
    model = draft.settings["model"]
    assert (model["kernel"], model["stride"], model["deep_supervision"]) == (kernel, stride, deep)
    load_config(draft.settings, [f"model.channels={channels}"])


@pytest.mark.parametrize(
    ("channels", "encoder"), [("[8,16,32]", [1, 2, 2]), ("[8,16,16,32,64]", [1, 2, 2, 2, 2])]
)
def test_a_thin_level_remains_where_the_user_sets_the_channels(channels, encoder):
    thin = build_topology((64, 64), (1.0, 1.0), max_levels=4).thinned()
    draft = Draft()
    draft.set("model", network_config(thin, deep_supervision=False).model_dump(mode="json"))
    fit_levels(draft, [f"model.channels={channels}"])
    model = draft.settings["model"]
    assert (model["convs_per_level"], model["decoder_convs"]) == (encoder, encoder[:-1])
    load_config(draft.settings, [f"model.channels={channels}"])


def test_overrides_come_last(balls):
    config = plan_dataset(balls, ["train.epochs=3", "model.norm=batch"], CPU, timer=FakeTimer()).config
    assert config.train.epochs == 3
    assert config.model.norm == "batch"
    assert config.model.channels == (16, 32, 64)


def test_the_time_is_a_setting_too(balls):
    request = PlanRequest(device="cpu")
    config = plan_dataset(balls, ["train.budget=30min"], request, timer=FakeTimer()).config
    assert (config.train.budget, config.train.epochs) == (30, 29)  # 0.8 · 1800 s / 0.5 s / 100
    config = plan_dataset(balls, request=request, timer=FakeTimer()).config
    assert (config.train.budget, config.train.epochs) == (None, 19)  # for 20 minutes


def test_the_file_explains_every_block(balls, tmp_path):
    plan = plan_dataset(balls, request=CPU, timer=FakeTimer())
    text = format_plan(plan.config, plan.reasons, plan.header)
    (tmp_path / "plan.yaml").write_text(text)
    assert load_config(tmp_path / "plan.yaml") == plan.config
    for block in ("data", "preprocess", "sampling", "augment", "model", "loss", "train"):
        assert any(key.split(".")[0] == block for key in plan.reasons), block
    assert "6 volumes, median size 20×20×20" in text
    assert "nnU-Net would plan patch 20×20×20" in text


@pytest.mark.slow
def test_updates_are_measured(balls):
    config = plan_config(balls, request=PlanRequest(minutes=1, device="cpu"))
    assert config.train.epochs >= 1


def test_an_update_is_measured(balls):
    candidate = plan_dataset(balls, request=CPU, timer=FakeTimer()).choice.candidate
    small = candidate.topology.with_features(4, 8)
    timed = type(candidate)(small, 1, candidate.spacing, candidate.median_shape)
    cost = StepTimer(Task(3, 1, 3), torch.device("cpu"), deep_supervision=True).measure(timed)
    assert 0 < cost.seconds < 2
    assert cost.memory is None


def plan_of_large_volumes(**request):
    """A plan for 20 volumes of 300 x 300 x 200 voxels that do not exist, with a fake timer."""
    ball = ClassFingerprint(name="ball", voxel_share=0.01, case_share=1.0, radius=1.0)
    fingerprint = Fingerprint(
        kind="volume", modality="other", cases=20, channels=1, spacings=((0.8, 0.8, 1.0),) * 20,
        shapes=((300, 300, 200),) * 20, intensities=None, nonzero_share=1.0, classes=(ball,), sampled=12,
    )  # fmt: skip
    machine = Machine(torch.device("cpu"), 16e9, 2)
    planner = _Planner(fingerprint, machine, replace(CPU, **request), Draft(), SemanticTask())
    return planner.plan((), FakeTimer())


def test_a_cascade_on_request():
    plan = plan_of_large_volumes(cascade=True)
    config, cascade = plan.config, plan.config.cascade
    assert config.preprocess.spacing is None  # the scans' own
    assert max(cascade.spacing) > 1.2
    assert cascade.batch_size == config.train.batch_size
    # 0.8 · 1200 s in updates of 0.5 s: 60% for the second stage, 20% for each network of the first
    assert (config.train.epochs, cascade.epochs, cascade.folds) == (12, 4, 2)
    assert any("A cascade" in paragraph for paragraph in plan.header)
    text = format_plan(config, plan.reasons, plan.header)
    assert "# a patch of the second stage covers" in text
    assert describe_settings(config)[0].startswith("first stage")


def test_no_cascade_without_a_request():
    plan = plan_of_large_volumes()
    assert plan.config.cascade is None
    assert any("With --cascade, a first stage at" in paragraph for paragraph in plan.header)


def test_a_cascade_without_a_use_is_refused(balls, squares):
    request = PlanRequest(minutes=20, device="cpu", cascade=True)
    with pytest.raises(ConfigError, match="a patch covers 100% of the median case"):
        plan_dataset(balls, request=request, timer=FakeTimer())
    with pytest.raises(ConfigError, match="a cascade is for volumes"):
        plan_dataset(squares, request=request, timer=FakeTimer())
