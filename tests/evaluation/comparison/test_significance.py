"""Tests and effect sizes of paired differences, by hand and against SciPy."""

import math
import tracemalloc

import numpy as np
import pytest
import scipy.stats

from medseg.evaluation.comparison import sample_size, significance


def test_exact_permutations_by_hand():
    # signs of 1, 2, 3: the sums are ±6, ±4, ±2, 0, 0 (|sum| of -1+2+3 is 4): only ±6 reach 6: 2 of 8
    assert significance.permutation_p(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / 8)
    # one-sided, the sum 6 alone: 1 of 8
    assert significance.permutation_p(np.array([1.0, 2.0, 3.0]), one_sided=True) == pytest.approx(1 / 8)
    # -1 + 2 + 3 = 4: ±6 and ±4 reach it: 4 of 8
    assert significance.permutation_p(np.array([-1.0, 2.0, 3.0])) == pytest.approx(4 / 8)
    assert significance.permutation_p(np.zeros(4)) == 1
    assert math.isnan(significance.permutation_p(np.empty(0)))


def test_random_permutations_are_those_of_scipy():
    differences = np.random.default_rng(0).normal(0.25, 1, size=50)
    expected = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20000, rng=1
    )
    assert significance.permutation_p(differences) == pytest.approx(expected.pvalue, rel=0.2)


def test_signed_ranks_by_hand():
    # |d| without the zero: 1 2 2 4 has the ranks 1, 2.5, 2.5, 4; the negative one is a 2
    ranks = significance.signed_ranks(np.array([0.0, 1, -2, 2, 4, math.nan]))
    assert ranks.tolist() == [0, 1, -2.5, 2.5, 4, 0]
    assert significance.rank_biserial(np.array([0.0, 1, -2, 2, 4])) == pytest.approx(0.5)
    # all 5 differences positive: 2 of 2^5 signs are as extreme
    assert significance.signed_rank_p(np.arange(1.0, 6)) == pytest.approx(2 / 32)
    assert significance.signed_rank_p(np.zeros(5)) == 1
    # Pratt's ranks of 0 1 1 -1 are 1 3 3 -3: 3 + 3 - 3 = 3 is reached by every sum of three signs: 16 of 16
    assert significance.signed_rank_p(np.array([0.0, 1, 1, -1])) == 1
    # 0 1 1 1: ±9 of ±3 ±3 ±3: 4 of 16
    assert significance.signed_rank_p(np.array([0.0, 1, 1, 1])) == pytest.approx(4 / 16)
    many = np.random.default_rng(0).normal(0.3, 1, 30)
    assert significance.signed_rank_p(many) == pytest.approx(scipy.stats.wilcoxon(many).pvalue)


def test_rounding_is_a_tie():
    # 0.3 - 0.2 and 0.2 - 0.1 differ by rounding only
    differences = np.array([0.3 - 0.2, -(0.2 - 0.1), 1e-15])
    assert significance.signed_ranks(differences).tolist() == [1.5, -1.5, 0]


def test_effect_sizes_by_hand():
    # mean 2, sd 1
    assert significance.cohen_dz(np.array([1.0, 2.0, 3.0])) == pytest.approx(2)
    assert significance.cohen_dz(np.array([0.1, 0.1])) == math.inf
    assert significance.cohen_dz(np.zeros(3)) == 0
    share, low, high = significance.improvement(np.array([1.0] * 8 + [-1.0] * 2))
    # Wilson's interval of 8 of 10: (0.8 + 0.19207 ± 1.96 sqrt(0.016 + 0.0096)) / 1.38416
    assert (share, low, high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)


def test_holm_by_hand():
    # sorted 0.01·4, 0.02·3, 0.03·2, 0.5: monotone 0.04, 0.06, 0.06, 0.5
    adjusted = significance.holm([0.03, 0.5, math.nan, 0.01, 0.02])
    assert adjusted[:2] == pytest.approx([0.06, 0.5])
    assert math.isnan(adjusted[2])
    assert adjusted[3:] == pytest.approx([0.04, 0.06])


def test_group_differences():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 12)
    values = rng.normal(size=36)
    expected = scipy.stats.f_oneway(*(values[groups == g] for g in range(3))).pvalue
    assert significance.group_p(values, groups) == pytest.approx(expected, abs=0.03)
    assert significance.group_p(values + 3 * groups, groups) == pytest.approx(1e-4)
    assert math.isnan(significance.group_p(values, np.zeros(36, int)))


def test_the_fewest_cases_that_can_be_significant():
    # the smallest two-sided p of n cases is 2 / 2^n: 0.0625 for 5, 0.03125 for 6; 3 tests: 3 · 2 / 2^7 = 0.047
    assert [significance.fewest_cases(), significance.fewest_cases(tests=3)] == [6, 7]
    assert significance.fewest_cases(alpha=0.01) == 8
    assert (
        float(significance.permutation_p(np.arange(1.0, 6)))
        > 0.05
        > float(significance.permutation_p(np.arange(1.0, 7)))
    )


@pytest.mark.parametrize(("cases", "quantile"), [(2, 0.003932), (3, 0.10259), (10, 3.32511), (30, 17.70837)])
def test_the_limit_of_a_deviation_from_few_cases_is_that_of_normal_differences(cases, quantile):
    # tables of the chi-square distribution: the 5% quantile for n - 1 degrees of freedom
    values = scipy.stats.norm.ppf((np.arange(cases) + 0.5) / cases)
    limit = values.std(ddof=1) * np.sqrt((cases - 1) / quantile)
    assert sample_size.deviation_limit(values) == pytest.approx(limit, rel=1e-3)


def test_the_limit_of_a_deviation_counts_rare_large_differences():
    # one of 30 cases differs by 1: resamples with it three times or more have a deviation of at least
    # sqrt(0.1 · 0.9 · 30 / 29) = 0.305, the limit of normal differences is sqrt(1 / 30) · 1.28 = 0.234
    values = np.zeros(30)
    values[0] = 1
    assert sample_size.deviation_limit(values) == pytest.approx(0.305, abs=0.001)


def test_sample_sizes_are_those_of_published_tables():
    # paired t test, two-sided 0.05: d = 0.5 needs 34 cases for 80% and 44 for 90%, d = 0.2 needs 199
    assert sample_size.cases_needed(1.0, 0.5) == 34
    assert sample_size.cases_needed(1.0, 0.5, power=0.9) == 44
    assert sample_size.cases_needed(0.05, 0.01) == 199
    assert sample_size.detectable_difference(1.0, 34) == pytest.approx(0.495, abs=0.001)


def test_false_positives_and_power_on_simulated_scores():
    # 50 cases of two methods with the same skewed scores: 5% false positives; a true gain is found
    rng = np.random.default_rng(1)
    difficulty = rng.beta(12, 2, size=(400, 50))
    scores = [np.clip(difficulty + rng.normal(0, 0.02, difficulty.shape), 0, 1) for _ in range(2)]
    differences = scores[1] - scores[0]
    assert np.mean(significance.permutation_p(differences) < 0.05) <= 0.065
    planted = significance.permutation_p(differences + 0.012)  # dz = 0.012 / 0.028: power 0.85 of a t test
    assert 0.78 <= np.mean(planted < 0.05) <= 0.92


def test_family_wise_errors_over_five_labels():
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(250, 1, 50))
    p = significance.permutation_p(0.6 * shared + rng.normal(size=(250, 5, 50)))
    adjusted = np.array([significance.holm(row) for row in p.tolist()])
    assert np.mean((p < 0.05).any(axis=1)) > 0.1  # without adjustment
    assert np.mean((adjusted < 0.05).any(axis=1)) <= 0.065


def test_blocks_of_resamples_do_not_change_p_values(monkeypatch):
    rng = np.random.default_rng(0)
    values, groups = rng.normal(0.2, 1, 40), np.arange(40) % 3
    whole = significance.permutation_p(values), significance.group_p(values, groups)
    monkeypatch.setattr(significance, "_DRAWN", 40 * 1000)
    assert (significance.permutation_p(values), significance.group_p(values, groups)) == whole


def test_memory_of_many_cases_is_bounded():
    values = np.random.default_rng(0).normal(size=600)
    tracemalloc.start()
    significance.permutation_p(values)
    significance.group_p(values, np.arange(600) % 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    significance._signs.cache_clear()
    assert peak < 48e6  # 9999 signs as float64 alone have 48 MB
