"""Trainings by two gloo processes equal those of one process."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import ball_settings
from rank_work import run_ranks, train_all

from medseg.inference.model.model_file import load_model

pytestmark = pytest.mark.slow

PLAIN = {"batch_size": 4}
RICH = {  # an uneven share of each batch, weights that are not used in every loss, several losses in an update
    "batch_size": 3,
    "accumulate": 2,
    "ema": 0.9,
    "deep_weights": "halving_skip_lowest",
    "gradient_checkpointing": True,
}
SHARDED = {"batch_size": 4, "ema": 0.5, "distributed": {"strategy": "fsdp"}}


def settings(balls: Path, train: dict, **model) -> dict:
    """Five updates of SGD in float32 with instance norm.

    The activation is smooth: in constant parts of the images, values are 0 but for rounding, and a kink there
    makes gradients depend on the order of sums.
    """
    sgd = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
    length = {"epochs": 1, "iterations": 5, "validate_share": None}
    base = ball_settings(balls, **{"optimizer": sgd, **length, **train})
    base["data"]["split"]["val"] = 0.4
    base["model"] = {"channels": [4, 8, 8], "dropout": 0, "activation": "silu", **model}
    return base


@pytest.fixture(scope="module")
def trained(balls, tmp_path_factory):
    """The run folders of the same trainings in one process and in two."""
    rich = {**RICH, "unlabeled": {"path": str(balls / "images"), "patches": 2}}
    rich_settings = settings(balls, rich, deep_supervision=1)
    rich_settings["data"]["split"]["test"] = 0
    kinds = {
        "plain": settings(balls, PLAIN),
        "rich": rich_settings,
        "sharded": settings(balls, SHARDED, deep_supervision=1),
    }
    root = tmp_path_factory.mktemp("ranks")
    one, two = ([(raw, root / n / kind) for kind, raw in kinds.items()] for n in ("one", "two"))
    train_all(one)
    longer = settings(balls, SHARDED | {"epochs": 2}, deep_supervision=1)  # continues a run of one process
    for trainings, folder in ((one, root / "one"), (two, root / "two")):
        shutil.copytree(root / "one" / "sharded", folder / "resumed")
        trainings.append((longer, folder / "resumed"))
    train_all(one[-1:], resume="auto")
    results = run_ranks(partial(train_all, resume="auto"), two)
    assert results[0] == results[1]
    return root


@pytest.mark.parametrize("kind", ["plain", "rich", "sharded", "resumed"])
def test_two_processes_train_the_network_of_one(trained, kind):
    one, two = (trained / n / kind for n in ("one", "two"))
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (one, two)]
    for entry, other in zip(*logs, strict=True):
        measured = {"seconds", "waiting"}
        assert entry.keys() == other.keys()
        assert {k: v for k, v in entry.items() if k not in measured} == pytest.approx(
            {k: v for k, v in other.items() if k not in measured}, abs=1e-5
        )
    assert logs[0][0]["val_cases"] == 2
    weights, others = (load_model(run / "model.safetensors")[1] for run in (one, two))
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, atol=1e-5, rtol=1e-5)
    a, b = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (one, two))
    assert a["optimizer"]["state"].keys() == b["optimizer"]["state"].keys()
    for i, state in a["optimizer"]["state"].items():
        torch.testing.assert_close(b["optimizer"]["state"][i], state, atol=1e-4, rtol=1e-4)
    assert a["drawn"] == b["drawn"]
    assert (two / "validation.json").read_text() == (one / "validation.json").read_text()
