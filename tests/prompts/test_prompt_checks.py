"""Prompts that do not fit a scan are refused."""

import numpy as np
import pytest

from medseg.errors import DataError
from medseg.prompts import Box, Lasso, Point, Scribble
from medseg.prompts.validation import check_prompt

TRIANGLE = np.array([[0, 0], [0, 3], [3, 0]])


@pytest.mark.parametrize(
    "prompt",
    [
        Point((1.0, 2.0)),
        Point((1.0, 2.0, 99.0)),
        Point((float("nan"), 0.0, 0.0)),
        Box((0, 0, 0), (3, 0, 3)),
        Box((0, 0, 0), (3, 3)),
        Scribble(np.zeros((0, 3), int)),
        Scribble(np.array([1, 2, 3])),
        Lasso(TRIANGLE),
        Lasso(TRIANGLE, 3, 0),
        Lasso(TRIANGLE, 0),
        Lasso(TRIANGLE[:2], 0, 1),
        Lasso(TRIANGLE, 0, 50),
    ],
)
def test_refused_in_a_volume(prompt):
    with pytest.raises(DataError):
        check_prompt(prompt, (8, 8, 8))


def test_accepted():
    check_prompt(Point((7.4, 0.0, -0.4)), (8, 8, 8))
    check_prompt(Box((-2, 0, 0), (3, 12, 3)), (8, 8, 8))  # reaches beyond the scan
    check_prompt(Lasso(TRIANGLE, 2, 7), (8, 8, 8))
    check_prompt(Lasso(TRIANGLE), (8, 8))
