"""The examples of the how-to guides on extending medseg work as described."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch
from conftest import ball_settings
from pydantic import Field, TypeAdapter

from medseg.cli.main import run as command
from medseg.config.schema import load_config, to_yaml
from medseg.data.io import readers
from medseg.inference.model.predictor import Predictor
from medseg.losses import PlainLossConfig
from medseg.models import ModelConfig
from medseg.task import IGNORE_INDEX, Task
from medseg.training.fit import fit

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"


def load_example(page, tmp_path):
    """The module that a guide's Python block defines."""
    code = re.search(r"^```python\n(.*?)^```", (HOW_TO / f"{page}.md").read_text("utf-8"), flags=re.S | re.M)
    name = page.replace("-", "_") + "_example"
    path = tmp_path / f"{name}.py"
    path.write_text(code.group(1), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_example_architecture_is_built_by_name_and_learns(tmp_path, spatial_dims):
    example = load_example("add-an-architecture", tmp_path)
    union = TypeAdapter(Annotated[ModelConfig.__origin__ | example.TwoLayerConfig, Field(discriminator="name")])
    config = union.validate_python({"name": "twolayer", "channels": 4})
    torch.manual_seed(0)
    network = config.build(Task(spatial_dims, 1, 2)).train()
    image = torch.rand(1, 1, *(9,) * spatial_dims)
    target = (image > 0.5).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(network(image), target[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert network(image).shape == (1, 2, *image.shape[2:])
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_example_loss_is_selected_by_name_and_has_the_value_of_its_formula(tmp_path, activation):
    example = load_example("add-a-loss", tmp_path)
    union = TypeAdapter(
        Annotated[PlainLossConfig.__origin__ | example.BrierConfig, Field(discriminator="name")]
    )
    loss = union.validate_python({"name": "brier"}).build(Task(2, 1, 2, activation))
    target = torch.tensor([[[[0, 1, IGNORE_INDEX]]]])
    if activation == "sigmoid":
        target = target.expand(1, 2, 1, 3)
    # p = 1/2 everywhere: each counted voxel has (1/2)² for each of 2 channels; sigmoid averages over channels
    expected = 0.5 if activation == "softmax" else 0.25
    assert loss(torch.zeros(1, 2, 1, 3), target).item() == pytest.approx(expected)


def test_the_example_reader_reads_and_writes(tmp_path, monkeypatch):
    example = load_example("add-a-reader", tmp_path)
    monkeypatch.setattr(readers, "READERS", (*readers.READERS, example.TextTableReader()))
    (tmp_path / "a.gray.txt").write_text("1 2 3\n4 5 6\n")
    scan = readers.read_scan(tmp_path / "a.gray.txt")
    assert scan.array.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert readers.is_image_file(tmp_path / "a.gray.txt")
    example.TextTableReader().write_label_map(tmp_path / "b.gray.txt", np.eye(2, dtype=np.uint8), scan, None)
    assert readers.read_scan(tmp_path / "b.gray.txt").array.tolist() == [[[1, 0], [0, 1]]]


@pytest.fixture
def lab(balls, tmp_path, monkeypatch):
    """A working directory with a short training on balls."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = load_config(ball_settings(balls, epochs=2, iterations=2))
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    return config


@pytest.mark.slow
def test_the_example_network_trains_by_command_and_from_python(lab, balls, tmp_path):
    example = load_example("own-network", tmp_path)
    (tmp_path / "own_network_example.py").rename(tmp_path / "my_network.py")
    assert command(["train", "c.yaml", "--run", "command", "--network", "my_network:MyNetwork"]) == 0
    network = example.MyNetwork(spatial_dims=3, in_channels=1, num_classes=3)
    result = fit(lab, "python", model=network)
    prediction = Predictor(result.run, model=network).predict(balls / "images" / "ball_0.nii.gz")
    assert prediction.label_map.shape == (20, 20, 20)


@pytest.mark.slow
def test_the_example_loss_of_a_training_has_the_value_of_its_formula(lab, tmp_path):
    example = load_example("own-loss", tmp_path)
    # p = 1/2 everywhere: (1/2)² for each of two classes, at the voxel that is not ignored
    target = torch.tensor([[[[0, IGNORE_INDEX]]]])
    assert example.squared_error(torch.zeros(1, 2, 1, 2), target).item() == pytest.approx(0.5)
    (tmp_path / "own_loss_example.py").rename(tmp_path / "my_loss.py")
    assert command(["train", "c.yaml", "--run", "command", "--loss", "my_loss:squared_error"]) == 0


@pytest.mark.slow
def test_the_example_transforms_change_the_samples(lab, tmp_path):
    example = load_example("own-transforms", tmp_path)
    sample = {
        "image": torch.arange(64.0).reshape(1, 8, 8),
        "label": torch.ones(1, 8, 8, dtype=torch.int16),
        "rng": np.random.default_rng(0),
    }
    changed = example.invert(example.drop_corner(sample))
    ignored = changed["label"] == -1
    assert 1 <= ignored.sum() <= 16
    assert (changed["image"][ignored] < 0).all()
    assert fit(lab, "run", transforms=[example.drop_corner, example.invert]).epochs == 2


def test_the_example_callback_follows_a_training_and_ends_it(lab, tmp_path):
    example = load_example("own-callbacks", tmp_path)
    result = fit(lab, "run", callbacks=example.JsonTracker("course.json", dice=0.0))
    course = json.loads((tmp_path / "course.json").read_text())
    assert [step for step, *_ in course["scores"]] == [2]
    assert course["pictures"][-1] == "val/worst_case"
    assert (course["cases"]["train"], course["from_step"]) == (4, 0)
    assert (course["outcome"], course["model"]) == ("finished", result.model.name)
