"""Unlabeled images in a training: the mean teacher."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import ball_settings, write_squares, write_volume

from medseg.config.schema import load_config
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.errors import ConfigError, DataError
from medseg.inference.model.model_file import load_model
from medseg.progress import QuietProgress
from medseg.training.fit import fit
from medseg.training.unlabeled import UnlabeledRecord, consistency


def test_the_loss_is_the_mean_squared_difference_of_probabilities():
    logits = torch.zeros(1, 2, 2, 1)  # probabilities 1/2, 1/2
    taught = torch.tensor([[[[torch.inf], [0.0]], [[0.0], [0.0]]]]).clamp(max=100)  # 1, 0 in the first voxel
    everywhere = torch.ones(1, 1, 2, 1, dtype=torch.bool)
    # squares: (1/4 + 1/4) / 2 classes = 1/4 in the first voxel, 0 in the second
    assert consistency(logits, taught, everywhere, sigmoid=False) == pytest.approx(0.125)
    first = torch.tensor([True, False]).view(1, 1, 2, 1)
    assert consistency(logits, taught, first, sigmoid=False) == pytest.approx(0.25)
    assert consistency(logits, taught, first, sigmoid=True) == pytest.approx(0.125)  # 1/4 and 0
    assert consistency(logits, taught, ~everywhere, sigmoid=True) == 0


@pytest.fixture
def images(balls, tmp_path):
    """Two images without labels."""
    folder = tmp_path / "unlabeled"
    for number in range(2):
        rng = np.random.default_rng(number)
        write_volume(folder / f"new_{number}.nii.gz", rng.normal(100, 30, (18, 20, 20)).astype(np.int16))
    return folder


def settings_of(balls, images, **train):
    unlabeled = {"path": str(images), "weight": 5.0, "ramp_up": 0.5, "patches": 1}
    settings = ball_settings(balls, epochs=2, iterations=2, ema=0.9, unlabeled=unlabeled, **train)
    settings["augment"] = {"noise": {"probability": 1.0}}
    return settings


def weights(run):
    return load_model(run / "model.safetensors")[1]


def same(one, two):
    return all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
def test_unlabeled_images_change_the_weights(balls, images, tmp_path):
    config = load_config(settings_of(balls, images), ["train.epochs=1"])
    fit(config, tmp_path / "a")
    without = config.model_copy(update={"train": config.train.model_copy(update={"unlabeled": None})})
    fit(without, tmp_path / "plain")
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "plain"))


class StopError(Exception):
    pass


class Stopper(QuietProgress):
    """Ends the training in its third update, as a crash would."""

    updates = 0

    def advance(self, detail=""):
        self.updates += detail.startswith("loss")
        if self.updates == 3:
            raise StopError


@pytest.mark.slow
def test_a_resumed_run_with_workers_equals_an_uninterrupted_one_without(balls, images, tmp_path):
    settings = settings_of(balls, images, save_every_steps=1)
    fit(load_config(settings), tmp_path / "whole")
    config = load_config(settings, ["data.workers=1"])
    with pytest.raises(StopError):
        fit(config, tmp_path / "broken", progress=Stopper())
    fit(config, tmp_path / "broken", resume="auto")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


def statistics_of(**digests):
    return [CaseStatistics.model_construct(id=name, image_sha256=digest) for name, digest in digests.items()]


def test_changed_images_of_a_resumed_run_are_listed(tmp_path, caplog):
    file = tmp_path / "unlabeled.json"
    UnlabeledRecord(file).update(statistics_of(a="1", b="2", c="3"))
    UnlabeledRecord(file, resumed=True).update(statistics_of(a="1", b="2", c="3"))
    changed = statistics_of(a="1", c="4", d="2")
    with pytest.raises(DataError, match=r"(?s)b: missing.*c: changed.*d: new"):
        UnlabeledRecord(file, resumed=True).update(changed)
    UnlabeledRecord(file, resumed=True, accept_changes=True).update(changed)
    assert "the unlabeled images changed: d: new" in caplog.text
    assert json.loads(file.read_text()) == {"a": "1", "c": "4", "d": "2"}


@pytest.mark.slow
def test_images_of_a_resumed_run_are_those_of_its_start(balls, images, tmp_path, caplog):
    config = load_config(settings_of(balls, images), ["train.epochs=1", "train.iterations=1"])
    fit(config, tmp_path / "run")
    assert sorted(json.loads((tmp_path / "run" / "unlabeled.json").read_text())) == ["new_0", "new_1"]
    (images / "new_0.nii.gz").rename(images / "new_2.nii.gz")
    with pytest.raises(DataError, match=r"(?s)unlabeled images changed.*new_0: missing.*new_2: new"):
        fit(config, tmp_path / "run", resume="auto")
    fit(config, tmp_path / "run", resume="auto", accept_new_cases=True)
    assert "the unlabeled images changed: new_2: new" in caplog.text


def test_images_of_validation_cases_are_left_out(balls, images, tmp_path, caplog):
    caplog.set_level("INFO")
    for path in (balls / "images").iterdir():
        shutil.copy(path, images / f"copy_of_{path.name}")
    fit(load_config(settings_of(balls, images)), tmp_path / "run")
    assert "2 images of validation and test cases in" in caplog.text  # of 6 cases, 1 validates and 1 tests


def test_pictures_beside_volumes_are_refused(balls, tmp_path):
    pictures = write_squares(tmp_path / "squares") / "images"
    with pytest.raises(
        DataError, match=r"train\.unlabeled\.path: .* contains pictures, the dataset contains volumes"
    ):
        fit(load_config(settings_of(balls, pictures)), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_teacher_needs_an_average():
    with pytest.raises(ConfigError, match="unlabeled needs an average of the weights"):
        load_config({"train": {"unlabeled": {"path": "scans"}}})
