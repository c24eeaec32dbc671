"""The user's own network, loss, transforms and callbacks in a training."""

import json

import pytest
import torch
from conftest import ball_settings
from torch import nn

from medseg.config.schema import load_config
from medseg.errors import ConfigError
from medseg.inference.model.model_file import load_model
from medseg.planning.measured.dry_run import dry_run
from medseg.task import Task
from medseg.training.extensions import network_factory
from medseg.training.fit import fit
from medseg.training.run_folder.log import read_log
from medseg.training.tracking.callbacks import Callback


@pytest.fixture
def config(balls):
    return load_config(ball_settings(balls, epochs=2, iterations=2))


def one_layer(task):
    return nn.Conv3d(task.in_channels, task.num_classes, 1)


def squared(logits, target):
    return ((logits[:, 1:2].sigmoid() - (target > 0).float()) ** 2).mean()


def invert(sample):
    sample["image"] = -sample["image"]
    sample["label"] = torch.where(sample["label"] == 2, -1, sample["label"])
    return sample


class Recorder(Callback):
    def __init__(self, stop_at=None):
        self.stop_at, self.epochs, self.result = stop_at, [], None
        self.start, self.updates, self.last = None, [], None

    def on_train_start(self, info):
        self.start = info

    def on_update(self, info):
        self.updates.append((info.step, info.patches))

    def on_epoch_end(self, info):
        self.epochs.append((info.epoch, info.step, info.is_best, sorted(info.scores)[:1]))
        self.last = info
        if info.epoch == self.stop_at:
            info.stop()

    def on_train_end(self, info):
        self.result = info


def test_all_parts_together(config, tmp_path):
    recorder = Recorder()
    result = fit(
        config, tmp_path / "run", model=one_layer, loss=squared, transforms=invert, callbacks=[recorder]
    )
    assert recorder.result == result
    assert [epoch[:2] for epoch in recorder.epochs] == [(1, 2), (2, 4)]
    assert recorder.epochs[0][2:] == (True, ["dice"])
    start, last = recorder.start, recorder.last
    assert (start.step, start.labels, start.cases) == (0, ("ball", "core"), {"train": 4, "val": 1, "test": 1})
    assert (start.environment["device"], list(start.history)) == ("cpu", [])
    assert recorder.updates == [(1, 2), (2, 2), (3, 2), (4, 2)]
    assert last.score == last.scores["dice"] == last.log["val_dice"]
    recorded = load_config(tmp_path / "run" / "config.yaml")
    assert recorded.model.class_name == "one_layer"
    assert recorded.loss.function == "squared"
    assert json.loads((tmp_path / "run" / "extensions.json").read_text()) == {
        "model": "one_layer",
        "loss": "squared",
        "transforms": ["invert"],
        "callbacks": ["Recorder"],
    }
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert {entry["drawn_voxels:core"] for entry in log} == {0}  # the transform made the core ignored


@pytest.mark.slow
def test_a_loss_changes_the_weights_and_a_resumed_run_needs_it(config, tmp_path):
    fit(config, tmp_path / "run", loss=squared)
    fit(config, tmp_path / "plain")
    one, two = (load_model(tmp_path / name / "model.safetensors")[1] for name in ("run", "plain"))
    assert any(not torch.equal(one[key], two[key]) for key in one)
    with pytest.raises(ConfigError, match="other settings: loss"):
        fit(config, tmp_path / "run", resume="auto")
    assert fit(config, tmp_path / "run", loss=squared, resume="auto").epochs == 2


@pytest.mark.slow
def test_transforms_run_in_workers_with_the_same_result(balls, tmp_path):
    for workers in (0, 2):
        config = load_config(ball_settings(balls, epochs=1, iterations=2), [f"data.workers={workers}"])
        fit(config, tmp_path / str(workers), transforms=[noise])
    one, two = (load_model(tmp_path / name / "model.safetensors")[1] for name in ("0", "2"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def noise(sample):
    sample["image"] = sample["image"] + float(sample["rng"].normal())
    return sample


def test_resuming_with_other_transforms_is_logged(config, tmp_path):
    fit(config, tmp_path / "run", transforms=noise)
    fit(config, tmp_path / "run", resume="auto")
    assert "with the transforms [], started with ['noise']" in (tmp_path / "run" / "messages.log").read_text()


def test_a_callback_ends_the_training_also_when_it_is_resumed(balls, tmp_path):
    config = load_config(ball_settings(balls, epochs=5, iterations=1))
    recorder = Recorder(stop_at=2)
    assert fit(config, tmp_path / "run", callbacks=recorder).epochs == 2
    again = Recorder()
    assert fit(config, tmp_path / "run", resume="auto", callbacks=again).epochs == 2
    assert again.epochs == []
    assert again.result.epochs == 2


def test_an_unknown_extension_is_a_type_error(config, tmp_path):
    with pytest.raises(TypeError, match="networks"):
        fit(config, tmp_path / "run", networks=one_layer)


def test_a_factory_that_returns_no_network_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match="no_network: returned int"):
        fit(config, tmp_path / "run", model=no_network)
    assert not (tmp_path / "run" / "config.yaml").exists()


def no_network(task):
    return 3


def test_a_dry_run_takes_them_too(config, tmp_path):
    assert dry_run(config, tmp_path / "run", model=one_layer, loss=squared, transforms=invert).parameters == 6


def test_a_network_gets_the_arguments_that_it_names():
    def both(spatial_dims, *, out_channels, task, bias=False):
        return spatial_dims, out_channels, task.in_channels, bias

    assert network_factory(both, "m:both")(Task(2, 3, 4)) == (2, 4, 3, False)
    with pytest.raises(ConfigError, match=r"m:Conv3d: requires kernel_size\. It is called with"):
        network_factory(nn.Conv3d, "m:Conv3d")
