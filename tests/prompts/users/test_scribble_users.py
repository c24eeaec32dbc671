import pickle

import numpy as np
import pytest
from skimage.draw import disk, polygon2mask

from medseg.errors import ConfigError, DataError
from medseg.prompts import Box, Lasso, Point, Scribble
from medseg.prompts.users import USERS, ClickUser, LassoUser, MixedUser, ScribbleUser, User, user_by_name
from medseg.prompts.users.brush import add_wobble, paint, resample
from medseg.prompts.users.regions import depth
from medseg.prompts.users.strokes import draw_contour, draw_line, draw_outside, draw_skeleton, draw_zigzag
from medseg.prompts.validation import check_prompt

HABITS = ("lines", "zigzags", "skeletons", "contours")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def round_object(shape=(96, 96), center=(40, 50), radius=24):
    mask = np.zeros(shape, bool)
    mask[disk(center, radius, shape=shape)] = True
    return mask


def ball(side=48, radius=16):
    grid = np.indices((side,) * 3) - side / 2
    return (grid**2).sum(axis=0) < radius**2


def painted(scribble, shape):
    mask = np.zeros(shape, bool)
    mask[tuple(scribble.voxels.T)] = True
    return mask


def test_line_follows_the_longest_extent(rng):
    bar = np.ones((7, 60), bool)
    line = draw_line(bar, rng)
    assert set(line[:, 0]) == {3.0}  # the middle row is the deepest
    assert np.ptp(line[:, 1]) >= 0.6 * 60
    assert (np.diff(line[:, 1]) > 0).all() or (np.diff(line[:, 1]) < 0).all()


def test_zigzag_turns_between_the_sides(rng):
    line = draw_zigzag(np.ones((21, 90), bool), rng)
    turns = np.diff(line[:, 0])
    assert (np.abs(turns) >= 8).all()
    assert (np.sign(turns[1:]) == -np.sign(turns[:-1])).all()


def test_skeleton_of_a_cross_is_its_longer_bar(rng):
    cross = np.zeros((41, 41), bool)
    cross[20, :] = cross[10:31, 20] = True
    path = draw_skeleton(cross, rng)
    assert np.abs(path[:, 0] - 20).max() <= 1
    assert len(path) >= 20


def test_contour_keeps_its_distance_from_the_border(rng):
    region = round_object()
    line = draw_contour(region, rng, depths=(0.5, 0.5))
    radii = np.linalg.norm(line - (40, 50), axis=1)
    assert radii.min() > 10
    assert radii.max() < 14


def test_outside_line_keeps_its_distance(rng):
    line = draw_outside(round_object(), 10.0, rng)
    radii = np.linalg.norm(line - (40, 50), axis=1)
    assert radii.min() > 32
    assert radii.max() < 36
    assert draw_outside(np.ones((4, 4), bool), 10.0, rng).min() < 0  # may leave the array


@pytest.mark.parametrize("draw", [draw_line, draw_zigzag, draw_skeleton, draw_contour])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2), (3, 1)])
def test_strokes_of_tiny_regions(draw, shape, rng):
    line = draw(np.ones(shape, bool), rng)
    assert line.shape[1] == 2
    assert len(line) >= 1
    assert np.isfinite(line).all()


def test_paint_is_the_brush_along_the_line():
    pixels = paint(np.array([[2.0, 2.0], [2.0, 3.0]]), 1.0, (5, 5))
    # two crosses of five pixels, which share two
    assert sorted(map(tuple, pixels)) == [(1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (2, 4), (3, 2), (3, 3)]
    assert sorted(map(tuple, paint(np.array([[0.0, 0.0]]), 1.0, (5, 5)))) == [(0, 0), (0, 1), (1, 0)]


def test_resampled_points_are_equally_spaced():
    points = resample(np.array([[0.0, 0.0], [0.0, 7.0], [7.0, 7.0]]), step=1.0)
    assert len(points) == 15
    assert np.allclose(np.abs(np.diff(points, axis=0)).sum(axis=1), 1)


def test_wobble_has_its_amplitude_and_is_smooth(rng):
    line = np.stack([np.zeros(20000), np.arange(20000) * 0.7], axis=1)
    offsets = add_wobble(line, 2.0, rng) - line
    assert offsets.std() == pytest.approx(2.0, rel=0.1)
    assert np.abs(np.diff(offsets, axis=0)).max() < 1.0


@pytest.mark.parametrize("habit", HABITS)
def test_scribbles_lie_in_the_object(habit, rng):
    reference = round_object()
    scribble = painted(ScribbleUser(habit).first(reference, rng), reference.shape)
    assert scribble.sum() > 40
    assert reference[scribble].mean() > 0.9


@pytest.mark.parametrize("habit", HABITS)
def test_corrections_have_the_sign_of_the_error(habit, rng):
    reference = round_object()
    missed = reference & (np.arange(96) < 45)
    correction = ScribbleUser(habit).next(reference, missed, rng)
    assert correction.positive
    assert (reference & ~missed)[tuple(correction.voxels.T)].mean() > 0.7
    wrong = reference | round_object(center=(75, 20), radius=12)
    correction = ScribbleUser(habit).next(reference, wrong, rng)
    assert not correction.positive
    assert reference[tuple(correction.voxels.T)].mean() < 0.1


def test_scribble_of_a_volume_lies_in_one_slice_of_the_error(rng):
    reference = ball()
    voxels = ScribbleUser("lines").first(reference, rng).voxels
    assert voxels.shape[1] == 3
    flat = [axis for axis in range(3) if np.ptp(voxels[:, axis]) == 0]
    assert len(flat) == 1
    assert abs(voxels[0, flat[0]] - 24) <= 8  # slices with at least 80% of the largest area
    assert reference[tuple(voxels.T)].mean() > 0.9


def test_thin_objects_are_followed_by_their_skeleton(rng):
    vessel = polygon2mask((80, 80), [(10, 5), (40, 70), (43, 70), (13, 5)])
    scribble = painted(ScribbleUser("zigzags").first(vessel, rng), vessel.shape)
    assert depth(~vessel)[scribble].max() <= 4


def test_background_scribble_surrounds_the_object(rng):
    reference = round_object()
    for _ in range(10):
        scribble = ScribbleUser().background(reference, rng)
        assert not scribble.positive
        assert len(scribble.voxels)
        assert not reference[tuple(scribble.voxels.T)].any()
    with pytest.raises(DataError, match="fills its slice"):
        ScribbleUser().background(np.ones((9, 9), bool), rng)


def test_lasso_encloses_the_error(rng):
    reference = round_object()
    lasso = LassoUser().first(reference, rng)
    inside = polygon2mask(reference.shape, lasso.vertices)
    assert (inside & reference).sum() > 0.95 * reference.sum()
    assert inside.sum() < 1.35 * reference.sum()
    volume = LassoUser().next(np.zeros((48,) * 3, bool), ball(), rng)
    assert not volume.positive
    assert volume.axis is not None
    assert abs(volume.index - 24) <= 8


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("make", [round_object, ball])
def test_every_user_is_reproducible_and_can_be_pickled(name, make):
    reference = make()
    user = pickle.loads(pickle.dumps(user_by_name(name)))
    assert isinstance(user, User)
    assert user.name == name
    prompts = [user.next(reference, ~reference, np.random.default_rng(7)) for _ in range(2)]
    prompts += [user.first(reference, np.random.default_rng(8)) for _ in range(2)]
    for one, other in (prompts[:2], prompts[2:]):
        assert type(one) is type(other)
        assert all(np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3), (1, 1, 1), (1, 4, 1), (2, 2, 2)])
def test_every_user_marks_objects_of_a_few_voxels(name, shape):
    reference = np.pad(np.ones(shape, bool), 2)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        first = user_by_name(name).first(reference, rng)
        correction = user_by_name(name).next(reference, np.zeros_like(reference), rng)
        assert first.positive
        assert correction.positive
        for prompt in (first, correction):
            check_prompt(prompt, reference.shape)


def test_mixed_user_changes_habits(rng):
    reference = round_object()
    kinds = {type(MixedUser().first(reference, rng)) for _ in range(60)}
    assert kinds == {Point, Box, Scribble, Lasso}
    only = MixedUser((ClickUser(), LassoUser()), (0.0, 1.0))
    assert {type(only.first(reference, rng)) for _ in range(5)} == {Lasso}


def test_names_are_checked():
    with pytest.raises(ConfigError, match="user 'click'") as error:
        user_by_name("click")
    assert error.value.hint == "Did you mean clicks?"
