import numpy as np
import pytest

from medseg.data.loading.cache.compact_storage import CompactImage, quantize_intensities, quantize_normalized
from medseg.data.preprocessing.normalization import CT, Percentile, ZScore, ZScoreNonzero

RNG = np.random.default_rng(0)
GRAY = RNG.integers(-1024, 3000, (2, 9, 10, 11)).astype(np.int16)


def decoded(quantized):
    assert quantized is not None
    return np.asarray(CompactImage(quantized))


def test_integers_are_stored_exactly():
    for array in (GRAY, GRAY.astype(np.float32)):
        quantized = quantize_intensities(array, integral=True)
        assert quantized.levels.dtype == np.uint16
        assert np.array_equal(decoded(quantized), array)
    assert quantize_intensities(GRAY.clip(0, 255), integral=True).levels.dtype == np.uint8


def test_resampled_integers_have_an_error_of_at_most_one_32nd():
    array = RNG.uniform(-1000, 3000, (1, 9, 9, 9)).astype(np.float32)
    assert np.abs(decoded(quantize_intensities(array, integral=True)) - array).max() <= 1 / 32
    assert quantize_intensities(array, integral=False) is None  # the values may have any precision
    array[0, 0, 0, 0] = 30_000  # metal: too large for 16 levels per unit in 16 bits
    assert quantize_intensities(array, integral=True) is None


@pytest.mark.parametrize("scheme", [ZScore(), ZScoreNonzero(), Percentile()])
@pytest.mark.parametrize("whole", [True, False])
def test_normalized_images_have_an_error_of_at_most_one_2048th_of_a_deviation(scheme, whole):
    raw = np.where(GRAY < 500, 0, GRAY)
    normalized = scheme(raw)
    found = decoded(quantize_normalized(normalized, raw if whole else None))
    deviation = normalized.std(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(found - normalized) / deviation).max() <= 1 / 2048
    assert np.array_equal(found == 0, normalized == 0)


def test_a_z_score_of_integers_is_exact():
    normalized = ZScore()(GRAY)
    assert np.abs(decoded(quantize_normalized(normalized, GRAY)) - normalized).max() < 1e-6


def test_an_image_with_an_extreme_outlier_is_not_quantized():
    image = RNG.normal(size=(1, 20, 20, 20)).astype(np.float32)
    assert quantize_normalized(image, None) is not None
    image[0, 0, 0, 0] = 1e5
    assert quantize_normalized(ZScore()(image), None) is None


def test_constant_images():
    zeros = np.zeros((1, 4, 4), np.float32)
    assert np.array_equal(decoded(quantize_normalized(zeros, np.full((1, 4, 4), 7))), zeros)
    assert quantize_normalized(zeros, None) is None


def test_deferred_normalization_is_bitwise_identical():
    window = CT(low=-100, high=300, mean=50, std=40)
    image = CompactImage(quantize_intensities(GRAY, integral=True), window)
    assert np.array_equal(np.asarray(image), window(GRAY))
    assert np.array_equal(np.asarray(image[:, 2:4, 1]), window(GRAY[:, 2:4, 1]))
    assert (image.shape, image.ndim, len(image)) == (GRAY.shape, 4, 2)
