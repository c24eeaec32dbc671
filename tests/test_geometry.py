import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import inv_ornt_aff

from medseg.geometry import (
    Grid,
    describe_grid_difference,
    from_ras,
    grids_agree,
    is_invertible,
    is_mirror_image,
    max_corner_distance_mm,
    resampled_grid,
    same_spacing,
    to_ras,
)

ORIENTATIONS = [
    np.array(list(zip(order, flips, strict=True)), dtype=float)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def at(affine, index):
    """The position of a voxel index, mm."""
    return affine[:-1, :-1] @ index + affine[:-1, -1]


@st.composite
def affines(draw):
    """Affines with spacing, an oblique and sheared frame, an offset and any of the 48 orientations."""
    spacing = [draw(st.floats(0.1, 10)) for _ in range(3)]
    tilt = np.array([draw(st.floats(-0.3, 0.3)) for _ in range(9)]).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) + tilt) @ np.diag(spacing)
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine @ inv_ornt_aff(draw(st.sampled_from(ORIENTATIONS)), (3, 4, 5))


def assert_reorients_and_restores(affine, array):
    reoriented, ras_affine = to_ras(array, affine)
    assert np.array_equal(from_ras(reoriented, Grid(array.shape[1:], affine)), array)
    assert np.array_equal(ras_affine[:3, :3].round(9), to_ras(reoriented, ras_affine)[1][:3, :3].round(9))
    values = {int(v): np.array(i[1:]) for i, v in np.ndenumerate(array[:1])}
    for index in np.ndindex(reoriented.shape[1:]):
        old = values[int(reoriented[(0, *index)])]
        np.testing.assert_allclose(at(ras_affine, np.array(index)), at(affine, old), atol=1e-6)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: str(o[:, 0] * o[:, 1]))
@pytest.mark.parametrize("channels", [1, 2])
def test_reorienting_to_ras_and_back_is_the_identity(orientation, channels):
    affine = np.diag([0.5, 2, 3, 1]) @ inv_ornt_aff(orientation, (3, 4, 5))
    array = np.arange(channels * 60, dtype=np.int16).reshape(channels, 3, 4, 5)
    assert_reorients_and_restores(affine, array)
    reoriented, ras_affine = to_ras(array, affine)
    # axes run to the right, anterior and superior: a diagonal of positive spacings
    np.testing.assert_allclose(ras_affine[:3, :3], np.diag([0.5, 2, 3]), atol=1e-12)
    assert reoriented.dtype == array.dtype


@given(affines())
@settings(max_examples=40, deadline=None)
def test_reorienting_preserves_voxel_positions(affine):
    assert_reorients_and_restores(affine, np.arange(60).reshape(1, 3, 4, 5))


def test_spacing_of_an_oblique_grid():
    # columns (3, 4, 0) and (0, 0, 2): lengths 5 and 2
    affine = np.array([[3.0, -4, 0, 7], [4, 3, 0, 8], [0, 0, 2, 9], [0, 0, 0, 1]])
    assert Grid((2, 2, 2), affine).spacing == (5, 5, 2)
    assert Grid.picture(2, 3).spacing == (1, 1)
    assert Grid.picture(2, 3, (0.5, 0.25)).spacing == (0.5, 0.25)


def test_corner_distance_by_hand():
    shape = (11, 5, 3)
    a = Grid(shape, np.eye(4))
    shifted = np.eye(4)
    shifted[:3, 3] = (3, 0, 4)
    assert max_corner_distance_mm(a, Grid(shape, shifted)) == 5  # √(3² + 4²)
    # spacing 1.1 along x: the last of 11 voxels is 10 · 0.1 = 1 mm off
    assert max_corner_distance_mm(a, Grid(shape, np.diag([1.1, 1, 1, 1]))) == pytest.approx(1)
    # pictures: one row of 3 pixels, spacing 2 along columns: 2 · 1 = 2 off
    assert max_corner_distance_mm(Grid.picture(1, 3), Grid.picture(1, 3, (1, 2))) == 2


def test_grids_agree_up_to_a_tenth_of_the_smallest_spacing():
    a = Grid((5, 5, 5), np.diag([1, 1, 0.5, 1]))
    for shift, agrees in ((0.049, True), (0.051, False)):
        affine = a.affine.copy()
        affine[0, 3] = shift
        b = Grid((5, 5, 5), affine)
        assert grids_agree(a, b) is agrees
    assert not grids_agree(a, Grid((5, 5, 6), a.affine))
    assert not grids_agree(a, Grid.picture(5, 5))
    assert describe_grid_difference(a, Grid((5, 5, 6), a.affine)) == "shapes differ: 5×5×5 and 5×5×6"
    assert "0.051 mm apart" in describe_grid_difference(a, b)


def test_same_spacing():
    assert same_spacing((1, 2, 3), (1.0005, 2, 3))
    assert not same_spacing((1, 2, 3), (1.01, 2, 3))
    assert not same_spacing((1, 2), (1, 2, 3))


@given(affines(), st.lists(st.floats(0.2, 8), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_resampling_keeps_the_field_of_view(affine, spacing):
    grid = Grid((3, 4, 50), affine)
    new = resampled_grid(grid, tuple(spacing))
    for corner in itertools.product((0, 1), repeat=3):
        # the outer faces lie half a voxel before the first and half a voxel after the last voxel
        faces = [np.array(corner) * g.shape - 0.5 for g in (grid, new)]
        np.testing.assert_allclose(at(new.affine, faces[1]), at(affine, faces[0]), atol=1e-6)
    wanted = np.array(grid.shape) * grid.spacing / np.array(spacing)
    assert np.all(np.abs(np.array(new.shape) - np.maximum(wanted, 1)) <= 0.5 + 1e-9)


def test_resampled_grid_by_hand():
    # 4 voxels of 1 mm become 2 of 2 mm: the first center moves from 0 to (0 + 1) / 2 = 0.5
    new = resampled_grid(Grid((4, 4, 4), np.eye(4)), (2, 1, 0.5))
    assert new.shape == (2, 4, 8)
    np.testing.assert_allclose(new.affine[:3, 3], [0.5, 0, -0.25])
    # 5 of 1 mm at 2 mm: round(2.5) = 2 voxels of 2.5 mm; at 100 mm one voxel is left
    new = resampled_grid(Grid.picture(5, 5), (2, 100))
    assert (new.shape, new.spacing) == ((2, 1), (2.5, 5))


def test_is_invertible():
    assert is_invertible(np.diag([1e-5, 1e-5, 1e-5, 1]))  # microscopy in mm
    assert not is_invertible(np.diag([1.0, 0, 1, 1]))
    assert not is_invertible(np.diag([np.nan, 1, 1, 1]))
    flat = np.eye(4)
    flat[:3, 2] = flat[:3, 0] + flat[:3, 1]
    assert not is_invertible(flat)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_determinant_decides_whether_it_is_a_mirror_image(dims):
    for n in range(dims + 1):
        for axes in itertools.combinations(range(dims), n):
            change = np.diag([-1.0 if axis in axes else 1.0 for axis in range(dims)])
            assert is_mirror_image(axes) == (np.linalg.det(change) < 0) == is_mirror_image((), change)
    half_turn = np.diag([-1.0, -1.0, *[1.0] * (dims - 2)])
    assert not is_mirror_image((), half_turn)
    assert is_mirror_image((0,), half_turn)
    assert not is_mirror_image((0,), np.diag([-2.0, *[1.0] * (dims - 1)]))
