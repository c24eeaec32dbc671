"""Trainings of networks that answer prompts, from files to sessions."""

import numpy as np
import pytest
from conftest import write_picture

from medseg import Interactive
from medseg.config.schema import load_config
from medseg.errors import ModelFileError
from medseg.inference.model.predictor import Predictor
from medseg.metrics.overlap import dice_score
from medseg.training.fit import fit


def two_disks(rng, size=40, radius=6):
    """Return the numbers of two equal disks, one in the left and one in the right half."""
    rows, columns = np.mgrid[:size, :size]
    numbers = np.zeros((size, size), np.uint8)
    for number, middle in ((1, size // 4), (2, 3 * size // 4)):
        row = rng.integers(radius + 1, size - radius - 1)
        numbers[(rows - row) ** 2 + (columns - middle) ** 2 < radius**2] = number
    return numbers


def write_disks(root, cases=6):
    for i in range(cases):
        rng = np.random.default_rng(i)
        numbers = two_disks(rng)
        image = 60 + 120 * (numbers > 0) + rng.normal(0, 10, numbers.shape)
        write_picture(root / "images" / f"c{i}.png", np.clip(image, 0, 255).astype(np.uint8))
        write_picture(root / "labels" / f"c{i}.png", numbers)
    return root


def settings(root, **train):
    return {
        "spatial_dims": 2,
        "task": {"name": "prompts", "interactions": 2, "users": {"clicks": 1}},
        "data": {
            "path": str(root), "instances": "keep", "labels": {"background": 0, "disk": 1}, "workers": 0,
            "split": {"name": "fraction", "val": 0.2, "test": 0.0},
        },
        "sampling": {"patch_size": [40, 40]},
        "model": {"channels": [8, 16, 32]},
        "train": {"epochs": 1, "iterations": 2, "batch_size": 4, "amp": "off", "validate_share": None, **train},
    }  # fmt: skip


@pytest.mark.slow
def test_the_click_decides_between_two_equal_objects(tmp_path):
    root = write_disks(tmp_path / "data")
    config = load_config(settings(root, iterations=120), ["train.optimizer.lr=0.01"])
    result = fit(config, tmp_path / "run")
    assert result.best > 0.9
    numbers = two_disks(np.random.default_rng(100))
    image = np.clip(60 + 120 * (numbers > 0), 0, 255).astype(np.uint8)
    session = Interactive(result.model).open(image)
    for number in (1, 2):
        center = np.argwhere(numbers == number).mean(axis=0)
        session.restart()
        assert dice_score(numbers == number, session.point(center)) > 0.8


def test_a_short_training_ends_with_a_model_that_needs_prompts(tmp_path):
    root = write_disks(tmp_path / "data", cases=4)
    result = fit(load_config(settings(root)), tmp_path / "run")
    assert 0 <= result.best <= 1
    model = Interactive(result.model)
    assert (model.name, model.spatial_dims) == ("run", (2,))
    assert model.header.task.in_channels == 1 + 7
    with pytest.raises(ModelFileError, match="what a user points at") as caught:
        Predictor(result.model)
    assert "medseg annotate" in caught.value.hint
