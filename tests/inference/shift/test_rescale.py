import json

import numpy as np
import pytest
import torch
from conftest import write_picture
from torch import nn

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.model.model_file import LoadedModel, ModelHeader
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.inference.shift.fingerprint import TrainingFingerprint
from medseg.inference.shift.rescale import Candidate, choose, confidence_of, estimate_scale, rate, size_targets
from medseg.models import CustomModelConfig

LABELS = LabelSchema(names={"background": (0,), "nucleus": (255,)})
DIAMETER = 12.0


def fingerprint():
    sizes = tuple(np.linspace(DIAMETER - 3, DIAMETER + 3, 49).tolist())
    return TrainingFingerprint(cases=49, kind="picture", lowest=0.0, features={"object_size:nucleus": sizes})


TARGETS = size_targets(fingerprint())


def disks(diameter, size=200):
    """A dark picture (H, W) with bright disks of a diameter."""
    y, x = np.mgrid[:size, :size]
    step = 1.6 * diameter
    centers = np.arange(step / 2, size, step)
    near = [np.abs(axis[..., None] - centers).min(axis=-1) for axis in (y, x)]
    return np.where(near[0] ** 2 + near[1] ** 2 < (diameter / 2) ** 2, 230, 20).astype(np.uint8)


class Threshold(nn.Module):
    """A network that labels what is brighter than a half."""

    def __init__(self):
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(20.0))

    def forward(self, image):
        logit = self.steepness * (image[:, :1] - 0.5)
        return torch.cat([-logit, logit], dim=1)


def model(**changes):
    header = ModelHeader(
        **{
            "spatial_dims": 2,
            "channels": 1,
            "labels": LABELS,
            "preprocess": PreprocessConfig(normalize=Range()),
            "inference": InferenceConfig(roi_size=(64, 64)),
            "model": CustomModelConfig(class_name="Threshold"),
            "fingerprint": fingerprint(),
        }
        | changes
    )
    return LoadedModel(header, Threshold().state_dict(), "0" * 64)


def predictor(**arguments):
    changes = {k: arguments.pop(k) for k in ("fingerprint", "preprocess", "spatial_dims") if k in arguments}
    return Predictor(model(**changes), model=Threshold(), device="cpu", backend="torch", **arguments)


def predict(part):
    """Certain probabilities: what is brighter than a half is a nucleus."""
    bright = torch.from_numpy(np.asarray(part[0]) > 0.5).float()
    return torch.stack([1 - bright, bright])


@pytest.mark.parametrize("magnification", [0.5, 2.0])
def test_the_scale_of_objects_of_another_size_is_found(magnification):
    image = disks(DIAMETER * magnification)[None] / 255
    choice = estimate_scale(image, predict, LABELS, TARGETS, restandardize=False)
    assert choice.factor == 1 / magnification
    assert len(choice.candidates) == 6


def test_touching_objects_are_measured_apart_where_they_are_told_apart():
    row = np.arange(200) // DIAMETER
    squares = (row[:, None] * 20 + row + 1).astype(np.int32)  # a chessboard of touching squares
    image = np.ones((1, 200, 200), np.float32)

    def separate(output):
        step = squares.shape[0] / output.shape[1]
        index = (np.arange(output.shape[1]) * step).astype(int)
        return squares[np.ix_(index, index)]

    joined = estimate_scale(image, predict, LABELS, TARGETS, restandardize=False)
    apart = estimate_scale(image, predict, LABELS, TARGETS, restandardize=False, separate=separate)
    sizes = {one.factor: one.sizes["nucleus"] for one in apart.candidates}
    assert sizes[1.0] == pytest.approx(DIAMETER * 2 / np.sqrt(np.pi), rel=0.05)
    assert {one.factor: one.sizes["nucleus"] for one in joined.candidates}[1.0] > 200
    assert apart.factor == 1


def test_the_size_of_the_objects_gives_the_factor(tmp_path):
    path = write_picture(tmp_path / "large.png", disks(2 * DIAMETER, 150))
    given = predictor(settings={"object_size": 24}).predict(path)
    assert given.scale.factor == 0.5  # the training's median is 12
    assert predictor(settings={"object_size": "auto"}).predict(path).scale.factor == 0.5
    with pytest.raises(ConfigError, match="both resize"):
        predictor(settings={"object_size": 24, "rescale": 2.0})
    with pytest.raises(ConfigError, match="does not record the sizes"):
        predictor(settings={"object_size": 24}, fingerprint=None)


def test_objects_of_the_trainings_size_keep_their_scale():
    image = disks(DIAMETER)[None] / 255
    assert estimate_scale(image, predict, LABELS, TARGETS, restandardize=False).factor == 1


def test_a_trial_covers_a_bounded_part_with_detail(monkeypatch):
    monkeypatch.setattr("medseg.inference.shift.rescale.TRIAL_PIXELS", 64 * 64)
    image = np.zeros((1, 400, 300), np.float32)
    image[0, 300:, 200:] = disks(DIAMETER, 100) / 255
    shapes = []

    def recorded(part):
        shapes.append(part.shape[1:])
        return predict(part)

    choice = estimate_scale(image, recorded, LABELS, TARGETS, restandardize=False)
    assert all(h * w <= 66 * 66 for h, w in shapes)
    assert choice.factor == 1
    assert choice.candidates[3].sizes["nucleus"] == pytest.approx(DIAMETER, rel=0.1)


def test_reduced_pictures_keep_their_moments():
    image = np.random.default_rng(0).normal(0, 1, (2, 128, 128)).astype(np.float32)
    parts = []
    estimate_scale(image, lambda part: parts.append(part) or predict(part), LABELS, TARGETS, restandardize=True)
    assert parts[0].std(axis=(1, 2)) == pytest.approx(image.std(axis=(1, 2)), rel=1e-3)


def test_the_sizes_of_similar_training_pictures_are_the_target():
    features = {
        "middle": (*[5.0] * 10, *[200.0] * 10),
        "saturation": (0.0,) * 20,
        "high": (60.0,) * 20,
        "object_size:nucleus": (*[10.0] * 10, *[40.0] * 10),
    }
    mixed = TrainingFingerprint(cases=20, kind="picture", lowest=0.0, features=features)
    assert size_targets(mixed, {"middle": 6.0, "saturation": 0.0})["nucleus"].median == 10
    assert size_targets(mixed, {"middle": 210.0, "saturation": 0.0})["nucleus"].median == 40


def test_without_objects_the_scale_is_kept():
    def nothing(part):
        return torch.stack([torch.ones(part.shape[1:]), torch.zeros(part.shape[1:])])

    choice = estimate_scale(np.zeros((1, 64, 64)), nothing, LABELS, TARGETS, restandardize=False)
    assert choice.factor == 1


def test_another_scale_needs_an_advantage():
    def candidates(score):
        return (Candidate(0.5, {}, 1.0, score), Candidate(1.0, {}, 1.0, -2.0), Candidate(2.0, {}, 1.0, None))

    assert choose(candidates(-0.1)) == 1  # -2 at the original scale, and 2 better is needed
    assert choose(candidates(0.1)) == 0.5
    assert choose((Candidate(0.5, {}, 1.0, -5.5), Candidate(1.0, {}, 1.0, None))) == 1


def test_sizes_that_do_not_change_with_the_scale_are_not_trusted():
    # at 0.5 the network joins everything to one object, whose size is by chance that of the training
    trials = [Candidate(0.5, {"nucleus": 12.0}, 0.9), Candidate(1.0, {"nucleus": 6.0}, 0.9),
              Candidate(2.0, {"nucleus": 12.0}, 0.9)]  # fmt: skip
    rated = rate(trials, TARGETS)
    assert choose(rated) == 2
    assert rated[0].score < rated[2].score - 4
    assert rate([Candidate(1.0, {"other": 3.0}, 0.9)], TARGETS)[0].score is None


def test_confidence_is_the_dice_of_probabilities_and_decisions():
    # p = 0.8 where decided, 0.3 elsewhere: 2 * 2 * 0.8 / (2 * 0.8 + 2 * 0.3 + 2)
    foreground = torch.tensor([[0.8, 0.3], [0.3, 0.8]])
    softmax = torch.stack([1 - foreground, foreground])
    assert confidence_of(softmax, "softmax") == pytest.approx(3.2 / 4.2)
    assert confidence_of(foreground[None], "sigmoid") == pytest.approx(3.2 / 4.2)
    assert confidence_of(0.1 * foreground[None], "sigmoid") == 0


def test_a_rescaled_result_has_the_pictures_own_size(tmp_path):
    pixels = disks(2 * DIAMETER, 150)
    path = write_picture(tmp_path / "large.png", pixels)
    plain = predictor().predict(path)
    assert plain.scale is None
    assert [one.feature for one in plain.shift.warnings] == ["object_size:nucleus"]
    auto = predictor(settings={"rescale": "auto"}).predict(path, probabilities=True)
    assert auto.scale.factor == 0.5
    assert auto.label_map.shape == auto.probabilities.shape[1:] == pixels.shape
    assert np.mean((auto.label_map > 0) == (pixels > 128)) > 0.97
    assert auto.shift.warnings == ()
    assert auto.shift.values["object_size:nucleus"] == pytest.approx(DIAMETER, rel=0.1)
    given = predictor(settings={"rescale": 0.5}).predict(path)
    assert np.array_equal(given.label_map, auto.label_map)
    assert given.scale.candidates == ()


def test_a_foreground_mask_is_resized_with_its_picture(tmp_path):
    path = write_picture(tmp_path / "a.png", disks(DIAMETER, 128))
    mask = np.zeros((128, 128), bool)
    mask[:40] = True
    found = predictor(settings={"rescale": 2.0, "overlap": 0.0}).predict(path, foreground=mask).label_map
    assert found[:40].any()
    assert not found[100:].any()


def test_smallest_objects_are_measured_at_the_scale_of_the_network(tmp_path):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[20:30, 20:30] = 255  # 100 pixels, 400 at twice the scale
    path = write_picture(tmp_path / "a.png", pixels)
    settings = {"postprocess": {"smallest": {"nucleus": 200}}}
    assert not predictor(settings=settings).predict(path).label_map.any()
    assert predictor(settings={**settings, "rescale": 2.0}).predict(path).label_map.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial_dims": 3}, "segments volumes"),
        ({"preprocess": PreprocessConfig(spacing=(1.0, 1.0))}, "resamples pictures to the spacing"),
        ({"fingerprint": None}, "does not record the sizes"),
    ],
)
def test_models_whose_scans_cannot_be_rescaled_refuse_it(changes, message):
    settings = {"rescale": "auto"} | ({"roi_size": None} if "spatial_dims" in changes else {})
    with pytest.raises(ConfigError, match=message):
        predictor(settings=settings, **changes)


def test_pictures_read_window_by_window_are_refused(tmp_path):
    path = tmp_path / "slide.tif"
    import tifffile

    tifffile.imwrite(path, disks(DIAMETER, 256), tile=(64, 64))
    outcome = infer_cases(
        predictor(settings={"rescale": 0.5, "large_above": 0}), find_inputs([path]), tmp_path / "out"
    )[0]
    assert "rescaling needs the whole picture in memory" in (outcome.error or "")


def test_the_scale_is_recorded_and_is_part_of_the_result(tmp_path):
    path = write_picture(tmp_path / "in" / "large.png", disks(2 * DIAMETER))
    out = tmp_path / "out"
    outcome = infer_cases(predictor(settings={"rescale": "auto"}), find_inputs([path]), out)[0]
    assert "(resized by 0.5)" in outcome.describe()
    record = json.loads((out / "provenance" / "large.json").read_text())
    assert record["rescale"]["requested"] == "auto"
    assert record["rescale"]["factor"] == 0.5
    assert len(record["rescale"]["candidates"]) == 6
    assert record["made_of"]["models"][0]["inference"][0]["rescale"] == "auto"
    outcome = infer_cases(predictor(), find_inputs([path]), out)[0]
    assert "rescale auto → not set" in (outcome.error or "")


def test_a_picture_that_was_not_rescaled_says_nothing_about_it(tmp_path):
    path = write_picture(tmp_path / "in" / "same.png", disks(DIAMETER))
    out = tmp_path / "out"
    outcome = infer_cases(predictor(settings={"rescale": "auto"}), find_inputs([path]), out)[0]
    assert "resized" not in outcome.describe()
    assert json.loads((out / "provenance" / "same.json").read_text())["rescale"]["factor"] == 1
    for rescale in (None, 1.0, "auto"):  # the result would be the same
        again = infer_cases(predictor(settings={"rescale": rescale}), find_inputs([path]), out)[0]
        assert again.error is None
    other = infer_cases(predictor(settings={"rescale": 0.5}), find_inputs([path]), out)[0]
    assert "rescale not set → 0.5" in (other.error or "")
