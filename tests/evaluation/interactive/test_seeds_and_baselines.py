import numpy as np
import pytest

from medseg.errors import ConfigError, DataError
from medseg.evaluation.interactive.baselines import BASELINES, Baseline, baseline_by_name
from medseg.evaluation.interactive.baselines.baseline import _coarse_image, _coarse_seeds
from medseg.evaluation.interactive.baselines.seeds import BACKGROUND, OBJECT, Seeds
from medseg.evaluation.interactive.simulation import dice
from medseg.prompts import Box, Lasso, Point, Promptable, PromptSession, Scribble


def bright_square(shape=(40, 40), *, noise=0.05):
    image = np.random.default_rng(0).normal(0, noise, shape).astype(np.float32)
    middle = tuple(slice(size // 4, 3 * size // 4) for size in shape)
    image[middle] += 1
    reference = np.zeros(shape, bool)
    reference[middle] = True
    return image, reference


def test_marks_are_seeds_and_later_ones_win():
    seeds = Seeds.of([Point((2.2, 3)), Scribble(np.array([[2, 3], [4, 4]]), positive=False)], (6, 6))
    assert seeds.values[4, 4] == seeds.values[2, 3] == BACKGROUND
    assert not seeds.object.any()


def test_points_outside_of_the_array_are_left_out():
    assert not Seeds.of([Point((9, 0)), Point((-1, 0))], (6, 6)).object.any()


def test_border_is_background():
    values = Seeds.of([Point((3, 3))], (6, 7)).values
    expected = np.full((6, 7), BACKGROUND)
    expected[1:-1, 1:-1] = 0
    expected[3, 3] = OBJECT
    assert (values == expected).all()


def test_box_marks_its_outside_and_its_core():
    values = Seeds.of([Box((2, 2), (7, 7))], (10, 10)).values
    assert (values == BACKGROUND).sum() == 100 - 25
    assert np.argwhere(values == OBJECT).tolist() == [[4, 4]]
    clicked = Seeds.of([Box((2, 2), (7, 7)), Point((2, 2))], (10, 10)).values
    assert np.argwhere(clicked == OBJECT).tolist() == [[2, 2], [4, 4]]
    refused = Seeds.of([Box((2, 2), (7, 7)), Point((4, 4), positive=False)], (10, 10))
    assert not refused.object.any()


def test_click_is_a_ball():
    assert Seeds.of([Point((100, 100))], (200, 250)).object.sum() == 13  # radius 2: 1 + 3 + 5 + 3 + 1


def test_box_of_one_slice_says_nothing_about_other_slices():
    values = Seeds.of([Box((1, 1, 2), (4, 4, 3))], (6, 6, 5)).values
    assert (values[..., 2] == BACKGROUND).sum() == 36 - 9
    assert not values[1:-1, 1:-1, [1, 3]].any()


def test_negative_areas_are_background():
    values = Seeds.of([Point((8, 8)), Box((0, 0), (3, 3), positive=False)], (10, 10)).values
    assert (values[:3, :3] == BACKGROUND).all()
    assert (values[1:-1, 1:-1] == BACKGROUND).sum() == 4
    corners = np.array([[1.0, 1], [1, 4], [4, 4], [4, 1]])
    inside = Seeds.of([Point((8, 8)), Lasso(corners, positive=False)], (10, 10)).background
    assert inside[2, 2]
    assert not inside[6:-1, 1:-1].any()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("dims", [2, 3])
def test_baselines_segment_a_bright_object(name, dims):
    image, reference = bright_square((40, 44, 38)[:2] if dims == 2 else (20, 20, 18))
    session = baseline_by_name(name).open(image, (1.0,) * dims)
    assert isinstance(baseline_by_name(name), Promptable)
    assert isinstance(session, PromptSession)
    assert not session.mask.any()
    mask = session.add(Point(tuple(size // 2 for size in image.shape)))
    assert mask.shape == reference.shape
    assert dice(mask, reference) > 0.8


def test_session_undoes_and_restarts():
    image, reference = bright_square()
    session = baseline_by_name("random-walker").open(image)
    first = session.add(Point((18, 18)))
    second = session.add(Point((12, 12), positive=False))
    assert not second[12, 12]
    assert (session.undo() == first).all()
    assert len(session.prompts) == 1
    session.restart(reference)
    assert session.prompts == ()
    assert (session.mask == reference).all()


def test_answer_of_a_large_image_has_its_grid(monkeypatch):
    monkeypatch.setattr("medseg.evaluation.interactive.baselines.baseline._LARGEST_VOXELS", 500)
    image, reference = bright_square((41, 43))
    mask = baseline_by_name("random-walker").open(image).add(Point((18, 18)))
    assert mask.shape == (41, 43)
    assert dice(mask, reference) > 0.8


def test_coarse_grids():
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    assert _coarse_image(image, 2)[0, 0].tolist() == [2.5, 4.5]  # mean of 0 1 4 5 and of 2 3 6 7
    seeds = np.array([[1, 2, 0], [2, 0, 0], [0, 0, 2]], np.uint8)
    assert _coarse_seeds(seeds, 2).tolist() == [[1, 0], [0, 2]]


def test_channels_come_first():
    image, reference = bright_square()
    session = Baseline("rw", baseline_by_name("random-walker").solver).open(np.stack([image, -image, image]))
    assert dice(session.add(Point((18, 18))), reference) > 0.8


def test_arrays_that_are_no_scans():
    method = baseline_by_name("random-walker")
    with pytest.raises(DataError, match=r"a volume without spacing\. Pass spacing="):
        method.open(np.zeros((9, 9, 9)))
    with pytest.raises(DataError, match="expected the numbers of a picture"):
        method.open(np.full((9, 9), "a"))


def test_saved_mask_is_on_the_grid_of_the_scan(tmp_path):
    from medseg.data.io.readers import read_scan

    image, _ = bright_square((20, 22, 24))
    session = baseline_by_name("random-walker").open(image, (1.0, 2.0, 3.0))
    mask = session.add(Point((15, 15, 15)))
    saved = read_scan(session.save(tmp_path / "mask.nii.gz"))
    assert saved.grid.spacing == (1.0, 2.0, 3.0)
    assert (saved.array[0] == mask).all()


def test_unknown_baseline():
    with pytest.raises(ConfigError, match="baseline 'random-walk'") as error:
        baseline_by_name("random-walk")
    assert error.value.hint == "Did you mean random-walker?"
