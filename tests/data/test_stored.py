import numpy as np
import pytest

from medseg.data.normalise import CT, Percentile, ZScore, ZScoreNonzero
from medseg.data.stored import StoredImage, code_grey_values, code_normalised

RNG = np.random.default_rng(0)
GREY = RNG.integers(-1024, 3000, (2, 9, 10, 11)).astype(np.int16)


def decoded(coded):
    assert coded is not None
    return np.asarray(StoredImage(coded))


def test_whole_grey_values_are_exact():
    for array in (GREY, GREY.astype(np.float32)):
        coded = code_grey_values(array, integral=True)
        assert coded.codes.dtype == np.uint16
        assert np.array_equal(decoded(coded), array)
    assert code_grey_values(GREY.clip(0, 255), integral=True).codes.dtype == np.uint8


def test_resampled_grey_values_keep_a_32nd_of_a_level():
    array = RNG.uniform(-1000, 3000, (1, 9, 9, 9)).astype(np.float32)
    assert np.abs(decoded(code_grey_values(array, integral=True)) - array).max() <= 1 / 32
    assert code_grey_values(array, integral=False) is None  # its levels may be as fine as can be
    array[0, 0, 0, 0] = 30_000  # metal: 16 bits do not hold sixteenths of that
    assert code_grey_values(array, integral=True) is None


@pytest.mark.parametrize("scheme", [ZScore(), ZScoreNonzero(), Percentile()])
@pytest.mark.parametrize("whole", [True, False])
def test_normalised_images_keep_a_2048th_of_a_deviation(scheme, whole):
    raw = np.where(GREY < 500, 0, GREY)
    normalised = scheme(raw)
    found = decoded(code_normalised(normalised, raw if whole else None))
    deviation = normalised.std(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(found - normalised) / deviation).max() <= 1 / 2048
    assert np.array_equal(found == 0, normalised == 0)


def test_a_z_score_of_whole_numbers_is_exact():
    normalised = ZScore()(GREY)
    assert np.abs(decoded(code_normalised(normalised, GREY)) - normalised).max() < 1e-6


def test_an_outlier_that_would_blur_the_rest_keeps_float32():
    image = RNG.normal(size=(1, 20, 20, 20)).astype(np.float32)
    assert code_normalised(image, None) is not None
    image[0, 0, 0, 0] = 1e5
    assert code_normalised(ZScore()(image), None) is None


def test_constant_images():
    zeros = np.zeros((1, 4, 4), np.float32)
    assert np.array_equal(decoded(code_normalised(zeros, np.full((1, 4, 4), 7))), zeros)
    assert code_normalised(zeros, None) is None


def test_a_late_normalisation_has_the_bits_of_an_early_one():
    window = CT(low=-100, high=300, mean=50, std=40)
    image = StoredImage(code_grey_values(GREY, integral=True), window)
    assert np.array_equal(np.asarray(image), window(GREY))
    assert np.array_equal(np.asarray(image[:, 2:4, 1]), window(GREY[:, 2:4, 1]))
    assert (image.shape, image.ndim, len(image)) == (GREY.shape, 4, 2)
