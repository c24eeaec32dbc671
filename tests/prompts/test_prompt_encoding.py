"""Prompts as channels, in windows of any place, direction and scale."""

import numpy as np
import pytest

from medseg.prompts import Box, Lasso, Point, Scribble
from medseg.prompts.encoding import FULL, draw_prompts, empty_channels, set_mask
from medseg.prompts.frame import Frame

MASK, POINT, NOT_POINT, AREA, NOT_AREA, SCRIBBLE, NOT_SCRIBBLE = range(7)


def drawn(prompt, frame):
    channels = empty_channels(frame.shape)
    draw_prompts(channels, [prompt], frame)
    return channels


def test_each_prompt_has_its_own_channel():
    frame = Frame.of_array((8, 8))
    corners = np.array([[1, 1], [1, 5], [5, 5], [5, 1]])
    prompts = (Point((2, 2)), Box((1, 1), (3, 4)), Lasso(corners), Scribble(np.array([[4, 4]])))
    for prompt, channel in zip(prompts, (POINT, AREA, AREA, SCRIBBLE), strict=True):
        negative = type(prompt)(**{**vars(prompt), "positive": False})
        assert np.flatnonzero(drawn(prompt, frame).any(axis=(1, 2))).tolist() == [channel]
        assert np.flatnonzero(drawn(negative, frame).any(axis=(1, 2))).tolist() == [channel + 1]


def test_values_in_the_whole_array():
    frame = Frame.of_array((9, 9))
    spot = drawn(Point((4, 3)), frame)[POINT]
    assert spot[4, 3] == FULL
    assert spot[4, 5] == spot[2, 3] == round(FULL * np.exp(-0.5))  # two voxels away: one standard deviation
    assert np.argwhere(drawn(Box((1, 2), (3, 5)), frame)[AREA]).tolist() == [
        [r, c] for r in (1, 2) for c in (2, 3, 4)
    ]
    assert np.argwhere(drawn(Scribble(np.array([[0, 0], [8, 8]])), frame)[SCRIBBLE]).tolist() == [
        [0, 0],
        [8, 8],
    ]
    square = drawn(Lasso(np.array([[2, 2], [2, 4], [4, 4], [4, 2]])), frame)[AREA]
    assert np.argwhere(square).min(axis=0).tolist() == [2, 2]
    assert np.argwhere(square).max(axis=0).tolist() == [4, 4]


def test_a_window_that_is_moved_and_coarser():
    # the window's voxels are 2 wide and begin at row 4 and column 0: row 6 is in its row 1
    frame = Frame.of_window((4, 4), (4.0, 0.0), (0.5, 0.5))
    assert np.argwhere(drawn(Scribble(np.array([[6, 3], [0, 0]])), frame)[SCRIBBLE]).tolist() == [[1, 1]]
    assert np.argwhere(drawn(Box((4, 0), (8, 2)), frame)[AREA]).tolist() == [[0, 0], [1, 0]]
    assert np.argwhere(drawn(Box((6, 6), (7, 7)), frame)[AREA]).tolist() == [[1, 3]]  # thinner than a voxel
    assert not drawn(Point((60, 60)), frame).any()


def test_a_finer_window_has_no_gaps():
    frame = Frame.of_window((6, 6), (0.0, 0.0), (2.0, 3.0))
    painted = drawn(Scribble(np.array([[1, 1]])), frame)[SCRIBBLE]
    assert np.argwhere(painted).tolist() == [[r, c] for r in (2, 3) for c in (3, 4, 5)]


def test_axes_that_are_permuted_and_reversed():
    # the window's first axis is the scan's last one, backwards: voxel 9 of 10 is its first
    frame = Frame((10, 4, 5), (2, 0, 1), (True, False, False), (10, 4, 5), (0.0,) * 3, (1.0,) * 3)
    assert np.argwhere(drawn(Scribble(np.array([[1, 2, 9]])), frame)[SCRIBBLE]).tolist() == [[0, 1, 2]]
    assert np.argwhere(drawn(Box((1, 2, 7), (2, 3, 9)), frame)[AREA]).tolist() == [[1, 1, 2], [2, 1, 2]]
    spot = drawn(Point((3, 4, 0)), frame)[POINT]
    assert np.unravel_index(spot.argmax(), spot.shape) == (9, 3, 4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_lasso_lies_in_its_slice(axis):
    frame = Frame.of_array((6, 6, 6))
    area = drawn(Lasso(np.array([[1, 1], [1, 4], [4, 4], [4, 1]]), axis, 3), frame)[AREA]
    assert np.flatnonzero(area.any(axis=tuple(i for i in range(3) if i != axis))).tolist() == [3]
    assert area.take(3, axis).sum() == 16 * FULL


def test_the_mask_is_the_first_channel():
    channels = empty_channels((2, 2))
    set_mask(channels, np.array([[True, False], [False, False]]))
    assert channels[MASK].tolist() == [[FULL, 0], [0, 0]]
