import math

import numpy as np
import pytest

from medseg.metrics import average_precision, binary_calibration, calibration_metrics
from medseg.metrics.probabilities import calibration


def test_calibration_by_hand():
    # confidences 0.6 (wrong) and 0.9 (right) of two pixels, in bins of one half: one bin,
    # |0.75 - 0.5|; in bins of a tenth: 0.6 against 0 and 0.9 against 1, halved
    probabilities = np.array([[0.6, 0.1], [0.4, 0.9]])
    reference = np.array([1, 1])
    two, ten = (calibration_metrics(probabilities, reference, num_bins=bins) for bins in (2, 10))
    assert two["ece"] == two["mce"] == pytest.approx(0.25)
    assert ten["ece"] == pytest.approx((0.6 + 0.1) / 2)
    assert ten["mce"] == pytest.approx(0.6)
    assert two["brier"] == pytest.approx((0.6**2 + 0.6**2 + 0.1**2 + 0.1**2) / 2)
    assert two["nll"] == pytest.approx(-(math.log(0.4) + math.log(0.9)) / 2)


def test_binary_calibration_by_hand():
    # one bin: mean probability 0.6, frequency 1/3
    probability, mask = np.array([[0.9, 0.5, 0.4]]), np.array([[1, 0, 0]])
    scores = binary_calibration(probability, mask, num_bins=1)
    assert scores["ece"] == pytest.approx(0.6 - 1 / 3)
    assert scores["brier"] == pytest.approx((0.1**2 + 0.5**2 + 0.4**2) / 3)
    assert scores["nll"] == pytest.approx(-(math.log(0.9) + math.log(0.5) + math.log(0.6)) / 3)
    assert scores["average_precision"] == 1.0
    assert math.isnan(binary_calibration(probability, 0 * mask)["average_precision"])


def test_binary_calibration_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    probability = rng.random((7, 9))
    mask = rng.random((7, 9)) < probability
    whole = binary_calibration(probability, mask)
    monkeypatch.setattr(calibration, "_BLOCK", 10)
    blocks = binary_calibration(probability, mask)
    assert blocks == pytest.approx(whole)
    assert blocks["average_precision"] == pytest.approx(average_precision(probability, mask), abs=1e-3)


def test_probabilities_that_rounding_moves_beyond_one():
    scores = binary_calibration(np.array([1.0000001, -1e-8], np.float32), np.array([0, 0]))
    assert scores["nll"] == math.inf  # not nan, which would leave the case out of the mean
    assert scores["brier"] == 0.5


def test_certain_and_wrong():
    scores = calibration_metrics(np.array([[1.0], [0.0]]), np.array([1]))
    assert scores["nll"] == math.inf
    assert scores["ece"] == 1.0


def test_ignored_pixels_count_nowhere():
    probabilities = np.array([[0.6, 0.1], [0.4, 0.9]])
    one = calibration_metrics(probabilities, np.array([1, 255]), ignore_index=255)
    assert one == calibration_metrics(probabilities[:, :1], np.array([1]))
    nothing = calibration_metrics(probabilities, np.array([255, 255]), ignore_index=255)
    assert all(math.isnan(value) for value in nothing.values())


def test_errors():
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        calibration_metrics(np.ones((2, 3)), np.zeros(4, int))
    with pytest.raises(ValueError, match="from 0 to 2, expected 0 to 1"):
        calibration_metrics(np.ones((2, 3)), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="num_bins is 0"):
        calibration_metrics(np.ones((2, 3)), np.array([0, 1, 1]), num_bins=0)
