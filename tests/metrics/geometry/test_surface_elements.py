from math import hypot, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.metrics.geometry.surface_elements import (
    neighbor_codes,
    surfel_elements,
    surfel_weights,
    voxel_elements,
)


def surfels(mask, spacing):
    codes = neighbor_codes(mask)
    places = surfel_elements(codes)
    return places, surfel_weights(spacing)[codes[places]]


def test_a_single_pixel_has_four_cut_corners():
    # every corner of the diamond is cut at half a pixel: 4 · √((2/2)² + (0.5/2)²)
    places, weights = surfels(np.ones((1, 1), bool), (2.0, 0.5))
    assert places.all()
    assert places.shape == (2, 2)
    assert weights.sum() == pytest.approx(4 * hypot(1.0, 0.25))


def test_straight_lines_have_the_length_of_the_axis_they_run_along():
    # 1×3 pixels, rows 5 mm, columns 2 mm: four corners, and 2 elements of 2 mm above and below each
    _, weights = surfels(np.ones((1, 3), bool), (5.0, 2.0))
    assert weights.sum() == pytest.approx(4 * hypot(5, 2) / 2 + 4 * 2.0)
    _, weights = surfels(np.ones((3, 1), bool), (5.0, 2.0))
    assert weights.sum() == pytest.approx(4 * hypot(5, 2) / 2 + 4 * 5.0)


def test_a_single_voxel_is_an_octahedron():
    # 8 triangles over the half axes a, b, c: area ½·√((ab)² + (bc)² + (ca)²) each
    a, b, c = 0.35, 0.45, 1.25
    triangle = sqrt((a * b) ** 2 + (b * c) ** 2 + (c * a) ** 2) / 2
    _, weights = surfels(np.ones((1, 1, 1), bool), (2 * a, 2 * b, 2 * c))
    assert weights.tolist() == pytest.approx([triangle] * 8)


def test_flat_faces_have_the_area_of_the_voxel_face():
    # the inner elements of a 3×3×3 block's top and bottom (normal along the first axis): 0.8 · 2.5 mm² each
    places, weights = surfels(np.ones((3, 3, 3), bool), (0.7, 0.8, 2.5))
    areas = np.zeros(places.shape)
    areas[places] = weights
    assert areas[[0, 3], 1:3, 1:3].ravel().tolist() == pytest.approx([0.8 * 2.5] * 8)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.4, 3.0), (1.0, 1.0, 1.0), (0.7, 0.8, 5.0)])
def test_a_mask_and_its_background_share_one_surface(spacing):
    weights = surfel_weights(spacing)
    np.testing.assert_allclose(weights, weights[::-1])
    assert weights[0] == weights[-1] == 0
    assert (weights[1:-1] > 0).all()


@given(hnp.arrays(bool, (3, 4, 2)), st.permutations([0, 1, 2]))
def test_the_area_does_not_depend_on_the_order_of_the_axes(mask, order):
    spacing = (0.7, 1.1, 2.5)
    _, weights = surfels(mask, spacing)
    _, turned = surfels(mask.transpose(order), tuple(spacing[axis] for axis in order))
    assert weights.sum() == pytest.approx(turned.sum())


def test_codes_distinguish_the_corners():
    # the voxel is the last corner (bit 2·1 + 1) of the first element, the first (bit 0) of the last
    assert neighbor_codes(np.ones((1, 1), bool)).tolist() == [[8, 4], [2, 1]]
    codes = neighbor_codes(np.ones((1, 1, 1), bool))
    assert codes.ravel().tolist() == [128, 64, 32, 16, 8, 4, 2, 1]


def test_border_voxels_have_a_face_neighbor_in_the_background():
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    expected = mask.copy()
    expected[2, 2] = False
    np.testing.assert_array_equal(voxel_elements(mask), expected)
    np.testing.assert_array_equal(voxel_elements(mask[1:4, 1:4]), expected[1:4, 1:4])  # outside: background
    assert voxel_elements(np.ones((1, 4, 4), bool)).all()
