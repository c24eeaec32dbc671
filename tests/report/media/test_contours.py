import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import points_in_poly

from medseg.report.media.contours import label_polygons, signed_area, simplify_ring


def _filled(polygons, shape):
    """Draw polygons by the even-odd rule at the centers of pixels."""
    centers = np.stack(np.meshgrid(np.arange(shape[1]), np.arange(shape[0])), axis=-1).reshape(-1, 2) + 0.5
    inside = np.zeros(len(centers), int)
    for polygon in polygons:
        for ring in polygon.rings:
            inside += points_in_poly(centers, ring)
    return (inside % 2 == 1).reshape(shape)


@settings(max_examples=30, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.booleans()))
def test_polygons_cover_the_centers_of_the_mask_and_no_others(mask):
    polygons = label_polygons(mask)
    assert (_filled(polygons, mask.shape) == mask).all()
    for polygon in polygons:
        assert all((ring[0] == ring[-1]).all() for ring in polygon.rings)
        assert signed_area(polygon.outer) > 0
        assert all(signed_area(hole) < 0 for hole in polygon.holes)


def test_a_hole_is_a_ring_of_its_region():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    mask[2, 0] = False
    [polygon] = label_polygons(mask)
    assert len(polygon.holes) == 1
    # the hole of one pixel is a diamond of area 1/2 around its center, (2.5, 2.5)
    assert signed_area(polygon.holes[0]) == -0.5
    assert polygon.holes[0][:-1].mean(axis=0).tolist() == [2.5, 2.5]


def test_pixels_that_touch_at_a_corner_are_two_regions():
    assert len(label_polygons(np.eye(2, dtype=bool))) == 2


def test_points_on_straight_lines_are_left_out():
    [polygon] = label_polygons(np.ones((1, 6), bool))
    # an octagon that is flattened to a hexagon: 6 corners, and the first one again
    assert len(simplify_ring(polygon.outer)) == 7
    assert signed_area(simplify_ring(polygon.outer)) == signed_area(polygon.outer)
