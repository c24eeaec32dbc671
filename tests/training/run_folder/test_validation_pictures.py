from types import SimpleNamespace

import numpy as np

from medseg.data.labels.schema import LabelSchema
from medseg.metrics.overlap import Counts
from medseg.training.run_folder.validation_pictures import ValidationPictures

LABELS = LabelSchema(names={"background": (0,), "organ": (1,)})


class _Writer:
    def __init__(self):
        self.pictures = {}

    def add_image(self, tag, picture, step, dataformats):
        assert dataformats == "HWC"
        self.pictures[tag] = picture, step


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
    pictures, writer = ValidationPictures(LABELS), _Writer()
    for name, dice in zip("abcdef", (90, 80, 85, 70, 10, 60), strict=True):
        _add(pictures, name, dice)
    pictures.write(writer, 40)
    assert sorted(writer.pictures) == ["val/a", "val/b", "val/c", "val/worst_case"]
    picture, step = writer.pictures["val/worst_case"]
    assert step == 40
    # image, reference, prediction and errors side by side
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 4 * 256 + 3 * 6
    assert ((picture == (86, 180, 233)).all(axis=-1)).any()  # what is missed


def test_drawing_rests_in_proportion_to_its_time():
    pictures = ValidationPictures(LABELS)
    assert pictures.is_due
    _add(pictures, "a", 50)
    pictures.write(_Writer(), 1)
    assert not pictures.is_due


def test_regions_are_painted():
    labels = LabelSchema(
        names={"background": (0,), "edema": (1,), "core": (2,)},
        regions={"whole": ("edema", "core"), "inner": ("core",)},
    )
    pictures, writer = ValidationPictures(labels), _Writer()
    whole = np.zeros((12, 12, 12), bool)
    whole[2:10, 2:10, 2:10] = True
    inner = np.zeros_like(whole)
    inner[4:8, 4:8, 4:8] = True
    pictures.add(_case("a"), np.stack([whole, inner]), whole.astype(int) + inner, [Counts(1, 0, 0, 0)] * 2)
    pictures.write(writer, 1)
    errors = writer.pictures["val/a"][0][:, -256:]
    assert np.ptp(errors.astype(int), axis=-1).max() == 0  # gray: there are none


def test_a_case_that_cannot_be_drawn_is_left_out():
    pictures, writer = ValidationPictures(LABELS), _Writer()
    pictures.add(_case("a"), np.zeros((1, 5, 5, 5)), np.zeros((12, 12, 12), int), [Counts(1, 0, 0, 0)])
    pictures.write(writer, 1)
    assert writer.pictures == {}
