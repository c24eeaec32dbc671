import math

import numpy as np
import pytest

from medseg.metrics.tables.statistics import bootstrap_means, describe, interval, quantile


def test_describe_by_hand():
    result = describe([1.0, 2.0, 3.0, math.nan, 6.0])
    assert result["mean"] == result["mean_finite"] == 3.0
    assert result["sd"] == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3))
    # 1 2 3 6: median (2 + 3) / 2, q1 at position 0.75, q3 at position 2.25
    assert (result["median"], result["q1"], result["q3"]) == pytest.approx((2.5, 1.75, 3.75))
    assert (result["min"], result["max"]) == (1.0, 6.0)
    assert (result["n"], result["n_nan"], result["n_inf"]) == (4, 1, 0)
    assert 1.0 <= result["ci_low"] < 3.0 < result["ci_high"] <= 6.0


def test_an_infinite_value_spoils_the_mean_and_is_counted():
    result = describe([1.0, 2.0, math.inf])
    assert result["mean"] == result["max"] == result["q3"] == result["ci_high"] == math.inf
    assert result["mean_finite"] == 1.5
    assert result["median"] == 2.0
    assert (result["n"], result["n_inf"]) == (3, 1)


@pytest.mark.parametrize(("values", "n_nan"), [([], 0), ([math.nan, math.nan], 2)])
def test_nothing_to_describe(values, n_nan):
    result = describe(values)
    assert (result["n"], result["n_nan"], result["n_inf"]) == (0, n_nan, 0)
    undefined = ("mean", "mean_finite", "sd", "median", "ci_low", "ci_high")
    assert all(math.isnan(result[key]) for key in undefined)


def test_one_value_has_no_spread():
    result = describe([0.8])
    assert result["mean"] == result["ci_low"] == result["ci_high"] == 0.8
    assert math.isnan(result["sd"])


def test_quantiles_equal_numpys():
    values = np.sort(np.random.default_rng(0).normal(size=37))
    for fraction in (0, 0.025, 0.3, 0.5, 0.975, 1):
        assert quantile(values, fraction) == pytest.approx(np.quantile(values, fraction))


def test_the_bootstrap_is_seeded_and_close_to_theory():
    scores = np.random.default_rng(1).normal(10, 2, (100, 1))
    means = bootstrap_means(scores, seed=4)
    np.testing.assert_array_equal(means, bootstrap_means(scores, seed=4))
    assert not np.array_equal(means, bootstrap_means(scores, seed=5))
    # standard error of the mean: sd / √n
    assert means.std() == pytest.approx(scores.std() / 10, rel=0.1)
    low, high = interval(means[:, 0])
    assert high - low == pytest.approx(2 * 1.96 * scores.std() / 10, rel=0.1)


def test_columns_share_the_resamples_and_leave_nan_out():
    scores = np.array([[1.0, 2.0, math.nan], [3.0, 6.0, math.nan], [5.0, 10.0, 7.0]])
    means = bootstrap_means(scores, resamples=500)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0])
    # the third column is 7 wherever its one case was drawn: 1 - (2/3)³ = 70 % of the resamples
    defined = means[~np.isnan(means[:, 2]), 2]
    assert set(defined) == {7.0}
    assert len(defined) / 500 == pytest.approx(0.70, abs=0.06)
