"""Prompts that do not fit a scan are refused."""

import re

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


BRUSH = np.argwhere(np.hypot(*np.mgrid[-5:6, -5:6]) <= 5) - 5
"""Pixels that a brush of radius 5 paints at (0, 0)."""


@pytest.mark.parametrize(
    "stroke",
    [
        Scribble(BRUSH),  # its center is the corner
        Scribble(np.add(BRUSH, [49, 30])),
        Scribble(np.argwhere(np.ones((20, 3), int)) - [0, 1]),  # a line of 3 pixels along the border
        Lasso(np.array([[-1, 3], [50, 3], [20, 40]])),
        Lasso(np.array([[-0.5, 3], [49.5, 3], [20, 39.5]])),
    ],
)
def test_strokes_may_cross_the_border_by_half_their_width(stroke):
    check_prompt(stroke, (50, 40))


@pytest.mark.parametrize(
    ("stroke", "point"),
    [
        (Scribble(np.add(BRUSH, [-4, 20])), "[-9.0, 20.0]"),
        (Scribble(np.array([[0, 3], [0, 2], [0, -30]])), "[0.0, -30.0]"),
        (Scribble(np.stack([np.arange(-20, 30)] * 2, axis=1)), "[-20.0, -20.0]"),
        (Lasso(np.array([[3, 3], [3, 52.26], [20, 40]])), "[3.0, 52.26]"),
    ],
)
def test_strokes_with_a_point_far_outside_are_refused(stroke, point):
    expected = f"the point {point} lies outside the scan, expected [0, 0] to [49, 39]"
    with pytest.raises(DataError, match=re.escape(expected)):
        check_prompt(stroke, (50, 40))


def test_the_slice_of_a_lasso_is_named_with_its_point():
    far = np.array([[1, 1], [90, 1], [1, 5]])
    with pytest.raises(DataError, match=re.escape("lasso: the point [90.0, 4.0, 1.0]")):
        check_prompt(Lasso(far, axis=1, index=4), (8, 8, 8))
