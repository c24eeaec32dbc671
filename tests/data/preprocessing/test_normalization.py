import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from medseg.data.preprocessing.normalization import CT, ImageNet, Percentile, Range, ZScore, ZScoreNonzero
from medseg.errors import ConfigError

RNG = np.random.default_rng(0)
SCHEMES = [ZScore(), ZScoreNonzero(), CT(low=0, high=1, mean=0.5, std=0.2), Percentile(), Range(), ImageNet()]


def row(*values):
    return np.array([[values]], dtype=np.float64)


def test_zscore_by_hand():
    # per channel: mean 2, deviations (-2, 0, 2), variance 8 / 3
    array = np.concatenate([row(0, 2, 4), row(10, 20, 30)])
    expected = np.array([-1, 0, 1]) * 2 / np.sqrt(8 / 3)
    np.testing.assert_allclose(ZScore()(array), [[expected], [expected]], rtol=1e-6)


def test_zscore_of_nonzero_voxels_by_hand():
    # 1 and 3: mean 2, standard deviation 1; zeros stay 0
    assert ZScoreNonzero()(row(0, 1, 3, 0)).tolist() == [[[0, -1, 1, 0]]]
    assert ZScoreNonzero()(row(0, 0)).tolist() == [[[0, 0]]]
    assert ZScoreNonzero()(row(0, 5, 5)).tolist() == [[[0, 0, 0]]]


def test_ct_by_hand():
    # clip to [0, 10], then (x - 4) / 2
    assert CT(low=0, high=10, mean=4, std=2)(row(-50, 0, 6, 99)).tolist() == [[[-2, -2, 1, 3]]]


def test_ct_computes_missing_values_from_the_foreground():
    foreground = np.arange(1001.0)  # percentiles 0.5 and 99.5: 5 and 995
    fitted = CT().fit(foreground)
    clipped = np.clip(foreground, 5, 995)
    assert (fitted.low, fitted.high) == (5, 995)
    assert (fitted.mean, fitted.std) == (pytest.approx(500), pytest.approx(clipped.std()))
    assert CT(low=-1, high=2000, mean=3, std=4).fit(foreground) == CT(low=-1, high=2000, mean=3, std=4)
    with pytest.raises(ValueError, match=r"call fit\(\)"):
        CT(low=3)(row(1))
    assert np.isfinite(CT().fit(np.full(9, 7.0))(row(7, 8))).all()


def test_percentile_by_hand():
    # 0…100: percentiles 10 and 90 are 10 and 90
    array = np.arange(101.0)[None, None]
    scaled = Percentile(low=10, high=90)(array)[0, 0]
    np.testing.assert_allclose(scaled[[0, 10, 50, 90, 100]], [0, 0, 0.5, 1, 1])


def test_range_by_hand():
    np.testing.assert_allclose(Range()(row(-1, 0, 51, 255, 300)), row(0, 0, 0.2, 1, 1), rtol=1e-6)
    np.testing.assert_allclose(Range(low=-100, high=100)(row(0)), row(0.5))


def test_imagenet_by_hand():
    # 255 → (1 - mean) / std
    scaled = ImageNet()(np.full((3, 1, 1), 255, np.uint8))[:, 0, 0]
    np.testing.assert_allclose(
        scaled, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-5
    )
    with pytest.raises(ValueError, match="needs 3 channels, got 1"):
        ImageNet()(row(1))


@pytest.mark.parametrize("scheme", [ZScore(), ZScoreNonzero(), Percentile()], ids=lambda s: s.name)
@pytest.mark.parametrize("value", [0.1, 7, 1.7e6, -1e9, 1e-9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_channel_becomes_zero(scheme, value, dtype):
    assert not scheme(np.full((1, 30, 31), value, dtype)).any()


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float32])
def test_huge_intensities(dtype):
    small = RNG.integers(0, 1700, (1, 20, 20))
    for scheme in (ZScore(), Percentile()):
        np.testing.assert_allclose(scheme((small * 1000).astype(dtype)), scheme(small), atol=1e-5)
    huge = ZScore()((small * 1000).astype(dtype))
    assert huge.mean() == pytest.approx(0, abs=1e-6)
    assert huge.std() == pytest.approx(1, abs=1e-6)


def test_tiny_intensities_are_standardized():
    assert ZScore()(RNG.normal(1e-9, 1e-10, (1, 20, 20))).std() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int64, ">i2", np.float32, np.float64, ">f4"]
)
def test_every_data_type_yields_finite_float32(scheme, dtype):
    array = RNG.integers(0, 120, (3, 4, 5)).astype(dtype)
    before = array.copy()
    scaled = scheme(array)
    assert scaled.dtype == np.dtype(np.float32)
    assert scaled.dtype.isnative
    assert scaled.shape == array.shape
    assert np.isfinite(scaled).all()
    assert np.array_equal(array, before)


@given(hnp.arrays(np.float32, (1, 3, 4), elements=st.floats(-1e6, 1e6, width=32)), st.floats(0.1, 100))
@settings(deadline=None)
def test_zscore_does_not_depend_on_the_unit(array, unit):
    if array.std() > 1e-3 * abs(array).max():
        np.testing.assert_allclose(ZScore()(array * np.float64(unit)), ZScore()(array), atol=1e-4)


@pytest.mark.parametrize(("scheme", "high"), [(Percentile, 50), (Range, 50), (CT, 49)])
def test_low_must_be_below_high(scheme, high):
    with pytest.raises(ValidationError, match=r"low \(50.0\) must"):
        scheme(low=50, high=high)


def test_ct_raises_if_the_foreground_contradicts_the_given_limit():
    with pytest.raises(ConfigError, match=r"low \(100\) is above high .*Set both"):
        CT(low=100).fit(np.arange(10.0))
