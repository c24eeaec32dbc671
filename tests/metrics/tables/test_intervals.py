"""Intervals of means against SciPy, by hand, and on simulated scores."""

import tracemalloc

import numpy as np
import pytest
import scipy.stats

from medseg.metrics.tables import intervals
from medseg.metrics.tables.intervals import bca_interval, mean_interval, resample_weights


def test_bca_is_that_of_scipy():
    values = np.random.default_rng(0).exponential(size=50)
    seeds = range(10)
    expected = [
        scipy.stats.bootstrap((values,), np.mean, method="BCa", n_resamples=5000, rng=seed).confidence_interval
        for seed in seeds
    ]
    own = [bca_interval(values, seed=seed) for seed in seeds]
    # the mean over seeds has a deviation of 0.02 standard errors of the mean
    tolerance = 0.1 * values.std() / 50**0.5
    assert np.mean(own, axis=0) == pytest.approx(np.mean(expected, axis=0), abs=tolerance)


def test_the_interval_of_symmetric_values_is_at_least_that_of_student():
    # mean 0, sd of 1 … 9 about 5 is sqrt(7.5), t(0.975, 8) = 2.306: reach 2.306 · sqrt(7.5 / 9) = 2.1051
    low, high = mean_interval(np.arange(1.0, 10.0))
    assert low <= 5 - 2.1051 + 1e-4
    assert high >= 5 + 2.1051 - 1e-4
    assert (low, high) == pytest.approx((5 - 2.1051, 5 + 2.1051), abs=0.1)


def test_rows_are_independent_and_constant_rows_have_no_width():
    rows = np.array([[0.5, 0.5, 0.5], [0.1, 0.2, 0.4]])
    low, high = mean_interval(rows)
    assert (low[0], high[0]) == (0.5, 0.5)
    assert (low[1], high[1]) == tuple(map(pytest.approx, map(float, mean_interval(rows[1]))))
    assert np.isnan(mean_interval(np.array([0.3]))[0])
    assert np.isnan(mean_interval(np.empty(0))[0])


def test_weights_are_shares_of_draws():
    weights = resample_weights(7, 100, 0)
    assert weights.sum(axis=1) == pytest.approx(np.ones(100))
    assert set(np.round(np.unique(weights) * 7, 9) % 1) == {0.0}


def test_many_cases_need_bounded_memory():
    # 5,000 resamples of 3,000 cases are 120 MB of float64 each time they are copied
    values = np.random.default_rng(0).random(3000)
    tracemalloc.start()
    try:
        bca_interval(values)
        assert tracemalloc.get_traced_memory()[1] < 120e6
    finally:
        tracemalloc.stop()


def test_blocks_of_resamples_are_the_same_resamples(monkeypatch):
    values = np.random.default_rng(0).random((3, 21))
    whole = bca_interval(values)
    monkeypatch.setattr(intervals, "_DRAWS", 1000)
    assert np.asarray(bca_interval(values)) == pytest.approx(np.asarray(whole), rel=1e-12)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).random(20)
    assert bca_interval(values, seed=3) == bca_interval(values, seed=3)
    assert bca_interval(values, seed=3) != bca_interval(values, seed=4)


def test_coverage_with_rare_misses_in_both_directions():
    # two methods that miss 4% of the structures each, other ones: plain BCa covers about 80%
    rng = np.random.default_rng(0)
    shape = (600, 50)
    missed = [(rng.random(shape) < 0.04) * rng.uniform(0.3, 0.9, shape) for _ in range(2)]
    differences = rng.normal(0.005, 0.02, shape) - missed[0] + missed[1]
    covered = []
    for interval in (bca_interval, mean_interval):
        low, high = interval(differences)
        covered.append(np.mean((low <= 0.005) & (high >= 0.005)))
    assert covered[0] < 0.87
    assert 0.935 <= covered[1] <= 0.985
