import math

import numpy as np
import pytest

from medseg.metrics import ReliabilityCurve


def test_an_edge_belongs_to_the_bin_below():
    # 0.5 falls into (0, 0.5] with 0.3, so gaps are |0.8 - 1| / 2 there and |0.7 - 0| above
    curve = ReliabilityCurve(2)
    curve.add(np.array([0.3, 0.5, 0.7]), np.array([True, False, False]))
    assert curve.ece == pytest.approx((0.2 + 0.7) / 3)
    assert curve.mce == pytest.approx(0.7)
    assert [row["size"] for row in curve.bins()] == [2, 1]
    assert curve.bins()[0]["confidence"] == pytest.approx(0.4)
    assert (curve.bins()[1]["low"], curve.bins()[1]["accuracy"]) == (0.5, 0.0)


def test_cases_add_up():
    rng = np.random.default_rng(0)
    confidence = rng.random((3, 10))
    correct = rng.random((3, 10)) < confidence
    one, two, whole = ReliabilityCurve(), ReliabilityCurve(), ReliabilityCurve()
    one.add(confidence[:1], correct[:1])
    two.add(confidence[1:], correct[1:])
    whole.add(confidence, correct)
    assert (one + two).ece == pytest.approx(whole.ece)
    with pytest.raises(ValueError, match="3 bins, expected 15"):
        whole + ReliabilityCurve(3)


def test_without_voxels():
    curve = ReliabilityCurve()
    assert math.isnan(curve.ece)
    assert math.isnan(curve.mce)
    assert curve.bins() == []
    with pytest.raises(ValueError, match="num_bins is 0"):
        ReliabilityCurve(0)
