import numpy as np
import pytest

from medseg.errors import DataError
from medseg.prompts.users import BoxUser, ClickUser
from medseg.prompts.users.regions import depth, largest_component, largest_error


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def square(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def test_largest_error_is_the_larger_of_missed_and_wrong():
    reference = square((10, 12), (0, 4), (0, 4))  # 16 pixels, all missed
    mask = square((10, 12), (5, 10), (6, 11))  # 25 pixels, all wrong
    region = largest_error(reference, mask)
    assert (region.corner, region.mask.shape, region.positive) == ((5, 6), (5, 5), False)
    region = largest_error(reference, mask & ~square((10, 12), (5, 8), (0, 12)))  # 10 wrong pixels are left
    assert (region.corner, region.mask.shape, region.positive) == ((0, 0), (4, 4), True)


def test_missed_and_wrong_voxels_are_separate_regions():
    reference = square((4, 8), (0, 4), (0, 3))  # 12 missed beside 8 wrong ones
    region = largest_error(reference, square((4, 8), (0, 4), (3, 5)))
    assert region.positive
    assert region.mask.sum() == 12


def test_components_touch_by_faces():
    reference = square((6, 6), (0, 2), (0, 2)) | square((6, 6), (2, 5), (2, 5))  # corners touch
    assert largest_component(reference).mask.sum() == 9


def test_nothing_to_correct(rng):
    reference = square((5, 5), (1, 3), (1, 3))
    assert largest_error(reference, reference.copy()) is None
    assert ClickUser().next(reference, reference.copy(), rng) is None


@pytest.mark.parametrize("side", [9, 41])  # Euclidean and, above 32,768 voxels, city-block
def test_depth_of_a_cube_is_the_layer(side):
    depths = depth(np.ones((side,) * 3, bool))
    assert depths.max() == depths[(side // 2,) * 3] == (side + 1) / 2
    assert depths[0].max() == 1


def test_click_hits_the_middle_of_the_error(rng):
    reference = square((20, 20, 20), (2, 9), (4, 11), (6, 13))  # a cube of 7 voxels: one deepest voxel
    point = ClickUser().first(reference, rng)
    assert point.position == (5.0, 7.0, 9.0)
    assert point.positive
    mask = reference | square((20, 20, 20), (10, 19), (10, 19), (10, 19))
    point = ClickUser().next(reference, mask, rng)
    assert point.position == (14.0, 14.0, 14.0)
    assert not point.positive


def test_random_clicks_cover_the_error(rng):
    reference = square((8, 8), (2, 5), (3, 6))
    points = {ClickUser("random").first(reference, rng).position for _ in range(200)}
    assert points == {(float(x), float(y)) for x in (2, 3, 4) for y in (3, 4, 5)}


def test_hasty_clicks_lie_near_the_border_and_sometimes_outside(rng):
    reference = square((64, 64), (10, 51), (10, 51))  # depth 21 in the middle
    points = np.array([ClickUser("hasty").first(reference, rng).position for _ in range(300)])
    depths = depth(reference)[tuple(points.astype(int).T)]
    assert np.median(depths) <= 7
    assert 0 < (depths == 0).mean() < 0.25
    corner = np.ones((3, 3), bool)
    assert all(min(ClickUser("hasty", slip=9).first(corner, rng).position) >= 0 for _ in range(20))


def test_box_without_jitter_is_the_bounding_box(rng):
    reference = square((20, 30, 10), (3, 9), (10, 12), (0, 10))
    box = BoxUser(jitter=0).first(reference, rng)
    assert (box.lower, box.upper) == ((3, 10, 0), (9, 12, 10))
    assert BoxUser().next(reference, ~reference, rng).position  # a click


def test_box_of_a_slice(rng):
    reference = square((20, 30, 10), (3, 9), (10, 22), (2, 5))  # the largest slice is perpendicular to axis 2
    box = BoxUser(jitter=0, one_slice=True).first(reference, np.random.default_rng(1))
    assert box.lower[:2] == (3, 10)
    assert box.upper[:2] == (9, 22)
    assert box.lower[2] in (2, 3, 4)
    assert box.upper[2] == box.lower[2] + 1


def test_jittered_boxes_stay_in_the_array_and_are_never_empty(rng):
    reference = square((12, 12), (0, 12), (5, 6))
    for _ in range(100):
        box = BoxUser(jitter=0.5).first(reference, rng)
        assert all(0 <= low < high <= 12 for low, high in zip(box.lower, box.upper, strict=True))


@pytest.mark.parametrize("reference", [np.zeros((4, 4), bool), np.ones((4, 4), np.uint8), np.ones(4, bool)])
def test_objects_that_cannot_be_clicked(reference, rng):
    with pytest.raises(DataError, match="object of a simulated user"):
        ClickUser().first(reference, rng)


def test_mask_on_another_grid(rng):
    with pytest.raises(DataError, match=r"expected booleans \(4, 4\)"):
        ClickUser().next(np.ones((4, 4), bool), np.ones((4, 5), bool), rng)
