import numpy as np
import pytest

from medseg.inference.shift.objects import measure_objects


def test_diameters_of_disks_and_balls_of_the_same_size():
    picture = np.zeros((10, 10), np.uint8)
    picture[:4, :4] = 7  # 16 pixels: 2 * sqrt(16 / pi)
    picture[6:8, 6:8] = 7  # 4 pixels
    nucleus = measure_objects(picture, {"nucleus": (7,)}, (1.0, 1.0))["nucleus"]
    assert nucleus.diameters == pytest.approx((2 * np.sqrt(4 / np.pi), 2 * np.sqrt(16 / np.pi)))
    assert nucleus.share == 0.2
    volume = np.zeros((6, 6, 6), np.int16)
    volume[1:3, 1:3, 1:3] = 300  # 8 voxels of 2 mm³: the ball's diameter is the cube root of 6 * 16 / pi
    tumor = measure_objects(volume, {"tumor": (300,)}, (1.0, 1.0, 2.0))["tumor"]
    assert tumor.diameters == pytest.approx((np.cbrt(96 / np.pi),))


def test_objects_that_touch_at_a_corner_are_one():
    picture = np.eye(3, dtype=np.uint8)
    sizes = measure_objects(picture, {"line": (1,)}, (1.0, 1.0))["line"]
    assert sizes.diameters == pytest.approx((2 * np.sqrt(3 / np.pi),))


def test_specks_do_not_count_as_objects():
    picture = np.zeros((40, 40), np.uint8)
    picture[:20, :20] = 1
    picture[30:, ::2] = 1  # columns of 10 pixels: 3.6 pixels, 16 % of 22.6
    sizes = measure_objects(picture, {"cell": (1,)}, (1.0, 1.0))["cell"]
    assert sizes.diameters == pytest.approx((2 * np.sqrt(400 / np.pi),))
    assert sizes.median == sizes.diameters[0]


def test_labels_that_are_absent_and_regions_that_overlap():
    picture = np.zeros((4, 4), np.uint8)
    picture[0, :2], picture[0, 2:] = 1, 2
    groups = {"whole": (1, 2), "core": (2,), "other": (5,)}
    sizes = measure_objects(picture, groups, (1.0, 1.0))
    assert [sizes[name].share for name in groups] == [4 / 16, 2 / 16, 0]
    assert sizes["whole"].diameters == pytest.approx((2 * np.sqrt(4 / np.pi),))
    assert sizes["other"].median is None


def test_large_images_are_reduced_first(monkeypatch):
    picture = np.zeros((64, 64), np.uint8)
    picture[:32, :32] = picture[40:, 40:] = 1
    exact = measure_objects(picture, {"cell": (1,)}, (1.0, 1.0))["cell"].diameters
    monkeypatch.setattr("medseg.inference.shift.objects._MOST_VOXELS", 1024)
    assert measure_objects(picture, {"cell": (1,)}, (1.0, 1.0))["cell"].diameters == pytest.approx(exact)


def test_touching_objects_are_measured_by_their_numbers():
    picture, numbers = np.zeros((6, 12), np.uint8), np.zeros((6, 12), np.uint16)
    picture[1:5, 1:9] = 1
    numbers[1:5, 1:5], numbers[1:5, 5:9] = 1, 2
    groups = {"cell": (1,)}
    assert len(measure_objects(picture, groups, (1.0, 1.0))["cell"].diameters) == 1
    apart = measure_objects(picture, groups, (1.0, 1.0), numbers)["cell"].diameters
    assert apart == pytest.approx([2 * np.sqrt(16 / np.pi)] * 2)
