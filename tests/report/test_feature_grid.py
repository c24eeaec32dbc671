import numpy as np
import pytest

from medseg.report.feature_grid import FeatureMap, feature_grid


def darkest_and_lightest(page, box):
    values = np.asarray(page.crop(box).convert("L"))
    return int(values.min()), int(values.max())


def test_the_most_active_channel_comes_first_and_has_its_own_range():
    channels = np.zeros((3, 4, 4), np.float32)
    channels[1, :2] = 1e-3
    channels[2, :, :2] = 50
    page = feature_grid(FeatureMap("encoder.0", channels, (3, 4, 4)), most=2)
    assert page.size[0] < 3 * 198  # two cells
    middle = (60, 60, 190, 230)
    first = np.asarray(page.crop(middle).convert("L"))  # channel 2: left white, right black
    assert first[:, 10].min() == 255
    assert first[:, -10].max() == 0
    second = (14 + 192 + 6 + 40, 70, 14 + 192 + 6 + 180, 230)
    assert darkest_and_lightest(page, second) == (0, 255)  # a thousandth is stretched, too


@pytest.mark.parametrize("count", [1, 2, 5, 16, 17, 40])
@pytest.mark.parametrize("size", [(8, 8), (3, 200), (300, 20), (1, 1)])
def test_any_number_and_shape_of_channels(count, size):
    channels = np.random.default_rng(0).normal(size=(count, *size))
    page = feature_grid(FeatureMap("a.b[1]", channels, (count, *size)), most=32, extent=(1.0, 2.0))
    assert page.size[0] > 190
    assert page.size[0] / page.size[1] < 8


def test_values_that_are_not_finite_are_accepted():
    channels = np.full((2, 4, 4), np.nan)
    assert feature_grid(FeatureMap("x", channels, (2, 4, 4))).size[0] > 0
