import math

import numpy as np
import pytest

from medseg.metrics import PrecisionRecallCounts, average_precision, precision_recall_curve

PROBABILITY = np.array([[0.9, 0.8, 0.8], [0.3, 0.3, 0.1]])
MASK = np.array([[1, 0, 1], [0, 1, 0]])


def test_curve_by_hand():
    precision, recall, threshold = precision_recall_curve(PROBABILITY, MASK)
    assert threshold.tolist() == [0.9, 0.8, 0.3, 0.1]  # equal probabilities are one point
    assert precision.tolist() == pytest.approx([1, 2 / 3, 3 / 5, 3 / 6])
    assert recall.tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1])
    # (1/3 - 0)·1 + (2/3 - 1/3)·2/3 + (1 - 2/3)·3/5
    assert average_precision(PROBABILITY, MASK) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_counts_of_several_cases():
    whole, one, two = (PrecisionRecallCounts(100) for _ in range(3))
    whole.add(PROBABILITY, MASK)
    one.add(PROBABILITY[0], MASK[0])
    two.add(PROBABILITY[1], MASK[1])
    total = one + two
    assert total.average_precision == whole.average_precision == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert total.curve()[2].tolist() == pytest.approx([0.9, 0.8, 0.3, 0.1])
    with pytest.raises(ValueError, match="1000 bins, expected 100"):
        whole + PrecisionRecallCounts()


def test_without_positives_or_voxels():
    assert math.isnan(average_precision(PROBABILITY, 0 * MASK))
    assert math.isnan(average_precision(np.zeros(0), np.zeros(0)))
    assert math.isnan(PrecisionRecallCounts().average_precision)
    with pytest.raises(ValueError, match="shape"):
        average_precision(PROBABILITY, MASK[0])
