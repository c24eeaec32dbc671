import math

import numpy as np
import pytest

from medseg.metrics import cldice
from medseg.metrics.topology import centerline


def test_lines_by_hand():
    # one pixel wide: each line is its own skeleton. 10 pixels against the first 5 of them:
    # sensitivity 5/10, precision 5/5, harmonic mean 2 · 0.5 · 1 / 1.5
    reference, prediction = np.zeros((5, 14), bool), np.zeros((5, 14), bool)
    reference[2, 2:12] = prediction[2, 2:7] = True
    assert cldice(reference, prediction) == pytest.approx(2 / 3)
    assert cldice(prediction, reference) == pytest.approx(2 / 3)


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 6)])
def test_empty_and_apart(shape):
    empty, one, two = (np.zeros(shape, bool) for _ in range(3))
    one[(0,) * (len(shape) - 1)], two[(5,) * (len(shape) - 1)] = True, True  # a rod each
    assert math.isnan(cldice(empty, empty))
    assert cldice(one, empty) == cldice(empty, one) == 0.0
    assert cldice(one, two) == 0.0


def test_an_empty_skeleton_gives_a_warning(monkeypatch):
    monkeypatch.setattr(centerline, "skeleton", np.zeros_like)
    with pytest.warns(RuntimeWarning, match="reference's skeleton is empty"):
        assert math.isnan(cldice(np.ones((4, 4), bool), np.ones((4, 4), bool)))


def test_errors():
    with pytest.raises(ValueError, match="1 axes"):
        cldice(np.ones(4), np.ones(4))
