import numpy as np
import pytest

from medseg.data.loading.compact_storage import CompactImage, quantize_intensities, quantize_normalized
from medseg.data.preprocessing.normalization import CT, Percentile, ZScore, ZScoreNonzero

RNG = np.random.default_rng(0)
GRAY = RNG.integers(-1024, 3000, (2, 9, 10, 11)).astype(np.int16)


def decoded(coded):
    assert coded is not None
    return np.asarray(CompactImage(coded))


def test_whole_gray_values_are_exact():
    for array in (GRAY, GRAY.astype(np.float32)):
        coded = quantize_intensities(array, integral=True)
        assert coded.codes.dtype == np.uint16
        assert np.array_equal(decoded(coded), array)
    assert quantize_intensities(GRAY.clip(0, 255), integral=True).codes.dtype == np.uint8


def test_resampled_gray_values_keep_a_32nd_of_a_level():
    array = RNG.uniform(-1000, 3000, (1, 9, 9, 9)).astype(np.float32)
    assert np.abs(decoded(quantize_intensities(array, integral=True)) - array).max() <= 1 / 32
    assert quantize_intensities(array, integral=False) is None  # its levels may be as fine as can be
    array[0, 0, 0, 0] = 30_000  # metal: 16 bits do not hold sixteenths of that
    assert quantize_intensities(array, integral=True) is None


@pytest.mark.parametrize("scheme", [ZScore(), ZScoreNonzero(), Percentile()])
@pytest.mark.parametrize("whole", [True, False])
def test_normalized_images_keep_a_2048th_of_a_deviation(scheme, whole):
    raw = np.where(GRAY < 500, 0, GRAY)
    normalized = scheme(raw)
    found = decoded(quantize_normalized(normalized, raw if whole else None))
    deviation = normalized.std(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(found - normalized) / deviation).max() <= 1 / 2048
    assert np.array_equal(found == 0, normalized == 0)


def test_a_z_score_of_whole_numbers_is_exact():
    normalized = ZScore()(GRAY)
    assert np.abs(decoded(quantize_normalized(normalized, GRAY)) - normalized).max() < 1e-6


def test_an_outlier_that_would_blur_the_rest_keeps_float32():
    image = RNG.normal(size=(1, 20, 20, 20)).astype(np.float32)
    assert quantize_normalized(image, None) is not None
    image[0, 0, 0, 0] = 1e5
    assert quantize_normalized(ZScore()(image), None) is None


def test_constant_images():
    zeros = np.zeros((1, 4, 4), np.float32)
    assert np.array_equal(decoded(quantize_normalized(zeros, np.full((1, 4, 4), 7))), zeros)
    assert quantize_normalized(zeros, None) is None


def test_a_late_normalization_has_the_bits_of_an_early_one():
    window = CT(low=-100, high=300, mean=50, std=40)
    image = CompactImage(quantize_intensities(GRAY, integral=True), window)
    assert np.array_equal(np.asarray(image), window(GRAY))
    assert np.array_equal(np.asarray(image[:, 2:4, 1]), window(GRAY[:, 2:4, 1]))
    assert (image.shape, image.ndim, len(image)) == (GRAY.shape, 4, 2)
