import math

import numpy as np
import pytest

from medseg.metrics.tables.intervals import mean_interval
from medseg.study.comparison import CellScores, paired_difference

NAN = math.nan


def scores(dice, seeds=(0,), cases="abcdefghijkl", labels=("organ", "lesion")):
    """Scores from dice (R, C, L), by way of rows."""
    dice = np.asarray(dice, float)
    rows = {
        seed: [
            {"case": cases[c], "name": labels[k], "dice": dice[r, c, k]}
            for c in range(dice.shape[1])
            for k in range(dice.shape[2])
        ]
        for r, seed in enumerate(seeds)
    }
    return CellScores.of(rows)


def test_means_by_hand():
    # run 0: organ (0.8 + 0.6) / 2 = 0.7, lesion 0.2: 0.45. run 1: organ 0.8, lesion (0.4 + 0) / 2: 0.5
    one = scores([[[0.8, 0.2], [0.6, NAN]], [[0.8, 0.4], [0.8, 0.0]]], seeds=(0, 1))
    assert one.seed_means.tolist() == pytest.approx([0.45, 0.5])
    # case a: (0.5 + 0.6) / 2; case b: (0.6 + 0.4) / 2
    assert one.case_means.tolist() == pytest.approx([0.55, 0.5])
    assert one.worst_tenth == pytest.approx(0.5)
    assert one.low_cases == 0


def test_the_worst_tenth_of_eleven_cases_is_two():
    one = scores([[[value / 10] for value in range(11)]], labels=("organ",))
    assert one.worst_tenth == pytest.approx(0.05)  # 0 and 0.1
    assert one.low_cases == 5  # 0 to 0.4


def test_a_difference_is_paired_by_case_and_seed():
    baseline = scores([[[0.5, 0.5], [0.1, 0.9]], [[0.4, 0.4], [0.0, 0.8]]], seeds=(0, 1))
    other = scores(baseline.dice + 0.05, seeds=(0, 1))
    difference = paired_difference(other, baseline)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.05, 0.05, 0.05))
    assert (difference.cases, difference.seeds) == (2, 2)


def test_only_common_seeds_are_compared():
    baseline = scores([[[0.5]], [[0.1]]], seeds=(0, 1), labels=("organ",))
    other = scores([[[0.4]]], seeds=(1,), labels=("organ",))
    assert paired_difference(other, baseline).mean == pytest.approx(0.3)


def test_the_interval_is_that_of_the_paired_differences():
    rng = np.random.default_rng(0)
    baseline, other = (
        scores(rng.random((1, 12, 1)), labels=("a",)),
        scores(rng.random((1, 12, 1)), labels=("a",)),
    )
    differences = (other.dice - baseline.dice)[0, :, 0]
    got = paired_difference(other, baseline)
    low, high = mean_interval(differences)
    assert got.mean == pytest.approx(differences.mean())
    assert (got.low, got.high) == pytest.approx((float(low), float(high)))


def test_a_correctly_empty_prediction_counts_as_one_against_a_false_positive():
    # the reference lacks the lesion: the baseline predicts one (Dice 0), the other does not (nan)
    baseline, other = scores([[[0.0], [0.5]]], labels=("lesion",)), scores([[[NAN], [0.5]]], labels=("lesion",))
    assert paired_difference(other, baseline).mean == pytest.approx(0.5)
    assert paired_difference(baseline, other).mean == pytest.approx(-0.5)


def test_without_defined_scores_there_is_no_difference():
    nothing = scores([[[NAN]]], labels=("lesion",))
    assert math.isnan(paired_difference(nothing, nothing).mean)
    assert math.isnan(nothing.worst_tenth)
