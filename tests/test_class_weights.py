import math

import pytest

from medseg.class_weights import class_weights_from_counts


def test_inverse_weights_by_hand():
    # 1/100, 1/50, 1/25 are as 1 : 2 : 4, whose mean is 7/3
    assert class_weights_from_counts([100, 50, 25], "inverse") == pytest.approx([3 / 7, 6 / 7, 12 / 7])


def test_sqrt_weights_by_hand():
    # 1/10, 1/5 are as 1 : 2, whose mean is 3/2
    assert class_weights_from_counts([100, 25], "sqrt") == pytest.approx([2 / 3, 4 / 3])


def test_effective_weights_by_hand():
    # β = 1/2: (1 - β) / (1 - βⁿ) is 1 for n = 1 and (1/2) / (3/4) = 2/3 for n = 2; their mean is 5/6
    assert class_weights_from_counts([1, 2], "effective", beta=0.5) == pytest.approx([6 / 5, 4 / 5])


def test_effective_number_is_stable_for_beta_near_one():
    # β → 1 makes it the inverse frequency; 1 - β ** n would be 0 or noise here
    weights = class_weights_from_counts([3, 1], "effective", beta=1 - 1e-15)
    assert weights == pytest.approx([0.5, 1.5], rel=1e-6)


def test_effective_number_levels_off():
    # both counts are far above 1 / (1 - 0.9999)
    assert class_weights_from_counts([10**9, 10**6], "effective") == pytest.approx([1, 1])


def test_beta_zero_counts_each_class_once():
    assert class_weights_from_counts([7, 3], "effective", beta=0) == [1, 1]


@pytest.mark.parametrize("scheme", ["inverse", "sqrt", "effective"])
def test_an_absent_class_weighs_nothing_and_the_present_average_one(scheme):
    weights = class_weights_from_counts([1000, 0, 10], scheme)
    assert weights[1] == 0
    assert math.fsum(weights) / 2 == pytest.approx(1)
    assert weights[2] > weights[0]


@pytest.mark.parametrize(
    ("counts", "beta"), [([1, -1], 0.5), ([0, 0], 0.5), ([], 0.5), ([1], 1.0), ([1], -0.1)]
)
def test_bad_input_is_refused(counts, beta):
    with pytest.raises(ValueError, match="must"):
        class_weights_from_counts(counts, "effective", beta=beta)
