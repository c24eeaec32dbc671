import tracemalloc
from types import SimpleNamespace

import numpy as np

from medseg.data.labels.schema import LabelSchema
from medseg.metrics.overlap import Counts
from medseg.report.media.error_map import ERROR_COLORS, MISSED
from medseg.training.run_folder import validation_pictures
from medseg.training.run_folder.validation_pictures import ValidationPictures

LABELS = LabelSchema(names={"background": (0,), "organ": (1,)})


def _case(name, dims=3):
    shape = (12,) * dims
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return SimpleNamespace(id=name, image=image, spacing=(1.0,) * dims)


def _add(pictures, name, dice):
    classes = np.zeros((12, 12, 12), np.int64)
    classes[3:9, 3:9, 3:9] = 1
    # Dice = 2 tp / (2 tp + fp + fn)
    pictures.add(
        _case(name), np.roll(classes, 2, axis=2)[None], classes, [Counts(dice, 100 - dice, 100 - dice, 0)]
    )


def test_the_first_cases_and_the_worst_are_drawn():
    pictures = ValidationPictures(LABELS)
    for name, dice in zip("abcdef", (90, 80, 85, 70, 10, 60), strict=True):
        _add(pictures, name, dice)
    drawn = pictures.take()
    assert sorted(drawn) == ["val/a", "val/b", "val/c", "val/worst_case"]
    picture = drawn["val/worst_case"]
    # image, reference, prediction and errors side by side
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 4 * 256 + 3 * 6
    assert (picture == ERROR_COLORS[MISSED]).all(axis=-1).any()


def test_drawing_rests_in_proportion_to_its_time():
    pictures = ValidationPictures(LABELS)
    assert pictures.is_due
    _add(pictures, "a", 50)
    assert list(pictures.take()) == ["val/a", "val/worst_case"]
    assert not pictures.is_due
    assert pictures.take() == {}


def test_regions_are_painted():
    labels = LabelSchema(
        names={"background": (0,), "edema": (1,), "core": (2,)},
        regions={"whole": ("edema", "core"), "inner": ("core",)},
    )
    pictures = ValidationPictures(labels)
    whole = np.zeros((12, 12, 12), bool)
    whole[2:10, 2:10, 2:10] = True
    inner = np.zeros_like(whole)
    inner[4:8, 4:8, 4:8] = True
    pictures.add(_case("a"), np.stack([whole, inner]), whole.astype(int) + inner, [Counts(1, 0, 0, 0)] * 2)
    errors = pictures.take()["val/a"][:, -256:]
    assert np.ptp(errors.astype(int), axis=-1).max() == 0  # gray: there are none


def test_a_case_that_cannot_be_drawn_is_left_out():
    pictures = ValidationPictures(LABELS)
    pictures.add(_case("a"), np.zeros((1, 5, 5, 5)), np.zeros((12, 12, 12), int), [Counts(1, 0, 0, 0)])
    assert pictures.take() == {}


def test_drawing_takes_little_memory_for_large_pictures():
    pictures = ValidationPictures(LABELS)
    shape = (3000, 3000)
    image = np.random.default_rng(0).random((1, *shape), np.float32)
    classes = np.zeros(shape, np.int16)
    classes[200:2800, 200:2800] = 1
    case = SimpleNamespace(id="a", image=image, spacing=(1.0, 1.0))
    _add(ValidationPictures(LABELS), "b", 50)  # modules are imported now
    tracemalloc.start()
    pictures.add(case, classes[None].astype(np.uint8), classes, [Counts(50, 50, 50, 0)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pictures.take()["val/a"].shape == (256, 4 * 256 + 3 * 6, 3)
    assert peak < 2 * image.nbytes


def test_errors_are_logged_only(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(validation_pictures, "_draw", fail)
    pictures = ValidationPictures(LABELS)
    _add(pictures, "a", 50)
    assert pictures.take() == {}
    assert not pictures.is_due


def test_the_log_grows_slowly(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(validation_pictures, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(validation_pictures, "_draw", lambda *_: now.__setitem__(0, now[0] + 0.1))
    pictures, written = ValidationPictures(LABELS), 0
    while now[0] < 24 * 3600:  # a validation every 20 s, for a day
        if pictures.is_due:
            _add(pictures, "a", 50)
            pictures.take()
            written += 1
        now[0] += 20
    # every minute for 20 minutes, then each 5% later than the one before: 20 + ln(72) / ln(1.05)
    assert 80 < written <= 20 + 88
