"""Axes of the page: what is shown at a voxel of the page, and prompts on their way back to the file."""

import numpy as np
import pytest
from conftest import write_picture, write_volume

from medseg.data.io.image_stacks import write_stack
from medseg.data.io.readers import read_scan
from medseg.prompts import Box, Lasso, Point, Scribble
from medseg.server.page.frame import Frame, drop_axis

PIR = np.array([[0, 0, 2.0, 0], [-1.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])
"""Axes of the file run to posterior, inferior and right, with 1, 3 and 2 mm."""


@pytest.fixture
def volume(tmp_path):
    return read_scan(write_volume(tmp_path / "a.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4), PIR))


def test_the_page_shows_right_anterior_superior(volume):
    frame = Frame.of(volume)
    assert frame.page_shape == (4, 2, 3)
    assert frame.spacing == (2.0, 1.0, 3.0)
    page = frame.to_page(volume.array[0])
    # voxel (0, 0, 0) of the page is the most left, posterior and inferior one: file index (1, 2, 0)
    assert page[0, 0, 0] == volume.array[0, 1, 2, 0]
    assert page[3, 1, 2] == volume.array[0, 0, 0, 3]
    np.testing.assert_array_equal(frame.from_page(page), volume.array[0])


def test_prompts_mark_the_same_voxels_in_the_file(volume):
    frame = Frame.of(volume)
    page = np.zeros(frame.page_shape, bool)
    page[1:3, 0:1, 1:3] = True
    file = frame.from_page(page)
    box = frame.prompt_from_page(Box((1, 0, 1), (3, 1, 3)))
    assert [(s.start, s.stop) for s in (slice(a, b) for a, b in zip(box.lower, box.upper, strict=True))] == [
        (int(np.nonzero(file)[axis].min()), int(np.nonzero(file)[axis].max()) + 1) for axis in range(3)
    ]
    voxels = np.argwhere(page)
    scribble = frame.prompt_from_page(Scribble(voxels, False))
    assert file[tuple(scribble.voxels.T)].all()
    assert not scribble.positive
    point = frame.prompt_from_page(Point((1, 0, 2)))
    assert file[tuple(int(one) for one in point.position)]


def test_a_lasso_keeps_its_area(volume):
    frame = Frame.of(volume)
    # around voxels x 1 and 2, z 1 of the slice y 0: edges 1 to 3 and 1 to 2; in files, centers are integers
    lasso = frame.prompt_from_page(Lasso(np.array([[1.0, 1], [3, 1], [3, 2], [1, 2]]), 1, 0))
    assert (lasso.axis, lasso.index) == (0, 1)
    assert lasso.vertices.min(axis=0).tolist() == [0.5, 0.5]  # inferior 1, right 1 and 2
    assert lasso.vertices.max(axis=0).tolist() == [1.5, 2.5]


def test_pictures_and_stacks_are_shown_as_they_are_seen(tmp_path):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = read_scan(write_picture(tmp_path / "a.png", pixels))
    frame = Frame.of(picture)
    assert frame.page_shape == (3, 2, 1)
    assert frame.to_page(picture.array[0])[2, 1, 0] == pixels[1, 2]
    assert frame.prompt_from_page(Point((2, 1, 0))).position == (1.0, 2.0)
    assert frame.prompt_from_page(Lasso(np.array([[0.5, 1.5]]), 2, 0)).vertices.tolist() == [[1.0, 0.0]]
    write_stack(tmp_path / "s.tif", np.arange(24, dtype=np.uint8).reshape(4, 3, 2))
    stack = read_scan(tmp_path / "s.tif")
    assert not Frame.of(stack).is_patient
    np.testing.assert_array_equal(Frame.of(stack).to_page(stack.array[0]), stack.array[0])


def test_prompts_of_a_slice_have_two_axes():
    assert drop_axis(Point((1, 2, 3)), 1) == Point((1, 3))
    assert drop_axis(Box((1, 2, 3), (4, 3, 6)), 1) == Box((1, 3), (4, 6))
    assert drop_axis(Lasso(np.zeros((3, 2)), 1, 2), 1).axis is None
