import math

import numpy as np
import pytest
from scipy import stats

from medseg.metrics.tables.statistics import (
    bootstrap_means,
    describe,
    describe_columns,
    interval,
    interval_of_label_means,
    median_interval,
    quantile,
)


def test_describe_by_hand():
    result = describe([1.0, 2.0, 3.0, math.nan, 6.0])
    assert result["mean"] == result["mean_finite"] == 3.0
    assert result["sd"] == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3))
    # 1 2 3 6: median (2 + 3) / 2, q1 at position 0.75, q3 at position 2.25
    assert (result["median"], result["q1"], result["q3"]) == pytest.approx((2.5, 1.75, 3.75))
    assert (result["min"], result["max"]) == (1.0, 6.0)
    assert (result["n"], result["n_nan"], result["n_inf"]) == (4, 1, 0)
    # Student's t interval: 3 ± 3.182 · 2.160 / 2
    assert result["ci_low"] == pytest.approx(3 - 3.4374, abs=1e-4)
    assert result["ci_high"] == pytest.approx(3 + 3.4374, abs=1e-4)


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
    undefined = ("mean", "mean_finite", "sd", "median", "ci_low", "ci_high", "median_ci_low")
    assert all(math.isnan(result[key]) for key in undefined)


def test_one_value_has_no_spread_and_no_interval():
    result = describe([0.8, math.nan])
    assert result["mean"] == result["median"] == 0.8
    assert all(math.isnan(result[key]) for key in ("sd", "ci_low", "ci_high", "median_ci_low"))


def test_equal_values_have_an_interval_of_width_zero():
    result = describe([0.8] * 7)
    assert result["ci_low"] == result["ci_high"] == result["median_ci_low"] == 0.8
    assert result["sd"] == pytest.approx(0, abs=1e-12)


def test_the_interval_of_the_mean_contains_scipys_bca_and_student():
    # a skewed score, as Dice with two failures; the percentile interval would be 0.05 lower on the left
    values = np.random.default_rng(3).beta(8, 1, 40)
    values[:2] = 0
    options = {"n_resamples": 5000, "method": "BCa", "random_state": np.random.default_rng(0)}
    expected = stats.bootstrap((values,), np.mean, **options).confidence_interval
    result = describe(values)
    student = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert result["ci_low"] == pytest.approx(min(expected.low, student[0]), abs=0.003)
    assert result["ci_high"] == pytest.approx(max(expected.high, student[1]), abs=0.003)


def test_an_interval_stays_within_the_possible_values():
    # mean 0.95, standard error 0.05: Student's t interval reaches 0.95 + 2.093 * 0.05 = 1.055
    values = np.array([[0.0], *[[1.0]] * 19])
    assert describe_columns(values)[0]["ci_high"] == pytest.approx(1.0546, abs=1e-4)
    assert describe_columns(values, ranges=[(0.0, 1.0)])[0]["ci_high"] == 1.0
    assert interval_of_label_means(values, bounds=(0.0, 1.0))[1] == 1.0


def test_columns_with_gaps_are_described_like_single_ones():
    values = np.random.default_rng(5).random((12, 3))
    values[4, 1], values[0, 2] = math.nan, math.inf
    alone = [describe(column) for column in values.T]
    assert describe_columns(values) == alone
    assert [one["n"] for one in alone] == [12, 11, 12]


@pytest.mark.parametrize(("n", "k"), [(6, 1), (8, 1), (9, 2), (20, 6), (50, 18)])
def test_median_intervals_are_order_statistics(n, k):
    # the ranks of tables of the sign test, such as Conover (1999), at 95%
    assert median_interval(np.arange(1.0, n + 1)) == (k, n + 1 - k)


def test_few_values_give_no_median_interval():
    assert all(math.isnan(limit) for limit in median_interval(np.arange(5.0)))


def test_labels_that_few_cases_have_keep_an_interval():
    scores = np.full((10, 2), 0.8)
    scores[:, 0] += np.linspace(-0.1, 0.1, 10)
    scores[1:, 1] = math.nan  # only the first case has the second label
    low, high = interval_of_label_means(scores)
    assert 0.7 < low < 0.8 < high < 0.9
    assert math.isnan(interval_of_label_means(scores[:1])[0])


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
