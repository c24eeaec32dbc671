import numpy as np
import pytest
from scipy import ndimage

from medseg.demo.cells import draw_cells
from medseg.instances.decoding import DenseOutput, calibrate, decode_instances
from medseg.instances.decoding_search import ValidationOutput, best_cut, fit_calibration, tune_decoding
from medseg.instances.heads.base import build_head
from medseg.instances.options import InstanceDecoding, InstanceTask


def test_calibrated_scores_are_the_share_of_matches():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.02, 0.98, 5000)
    matched = rng.uniform(size=5000) < scores**3  # overconfident
    values = calibrate(scores, fit_calibration(scores, matched))
    for low, high in ((0.1, 0.3), (0.4, 0.6), (0.7, 0.9)):
        chosen = (values > low) & (values < high)
        assert matched[chosen].mean() == pytest.approx(values[chosen].mean(), abs=0.08)


def test_scores_stay_where_nothing_can_be_learned():
    assert fit_calibration(np.full(50, 0.5), np.ones(50, bool)) == (1.0, 0.0)
    assert fit_calibration(np.array([0.1, 0.9]), np.array([False, True])) == (1.0, 0.0)


def test_cut_between_right_and_wrong_objects():
    # kept: 2 of 3 reference objects without an error: 2/3; with the third prediction 2/4, with all 2/5
    scores, matched = np.array([0.9, 0.8, 0.5, 0.1]), np.array([True, True, False, False])
    assert best_cut(scores, matched, 3) == pytest.approx(0.65)
    assert best_cut(scores, np.ones(4, bool), 4) == 0.0
    assert best_cut(np.zeros(0), np.zeros(0, bool), 3) == 0.0


def test_a_foreground_that_is_too_unsure_is_found_by_a_lower_threshold():
    cells = draw_cells((64, 64), (1.0, 1.0), np.random.default_rng(0)).astype(np.int32)
    head = build_head(InstanceTask(), 2)
    foreground = np.where(cells > 0, 0.45, 0.05).astype(np.float32)
    output = DenseOutput(np.stack([1 - foreground, foreground]), head.targets(cells, (1.0, 1.0)), (1.0, 1.0))
    case = ValidationOutput(output, cells, np.zeros(cells.shape, bool))
    tuned = tune_decoding(head, [case], "flows", InstanceDecoding())
    assert tuned.options.foreground < 0.45
    assert tuned.score == 1.0


def test_small_and_unlikely_objects_are_left_out_and_classes_follow_the_sum():
    cells = np.zeros((16, 30), np.int32)
    cells[2:10, 2:10], cells[2:10, 12:20], cells[2:5, 24:27] = 1, 2, 3
    head = build_head(InstanceTask(decoder="distance"), 2)
    maps = head.targets(cells, (2.0, 1.0))
    maps[1] = np.where(maps[1] > 0, 9.0, -9.0)
    probabilities = np.zeros((3, *cells.shape))
    probabilities[0] = cells == 0
    probabilities[1], probabilities[2] = 0.9 * (cells == 1), 0.9 * (cells > 1)
    probabilities[0] += 0.1 * (cells > 0)
    output = DenseOutput(probabilities, maps, (2.0, 1.0))
    found = decode_instances(head, output, InstanceDecoding(smallest=20))
    assert found.classes.tolist() == [1, 2]  # the third has 9 · 2 = 18 mm²
    assert found.sizes.tolist() == [128, 128]
    assert len(decode_instances(head, output, InstanceDecoding(score=0.95))) == 0


@pytest.mark.parametrize(("side", "radius", "dropped"), [(64, (6.0, 9.0), True), (128, (3.0, 4.0), False)])
def test_specks_are_dropped_below_a_size_that_is_chosen(side, radius, dropped):
    cells = draw_cells((side, side), (1.0, 1.0), np.random.default_rng(0), radius=radius).astype(np.int32)
    assert bool(cells.max() < 100) is dropped  # of more objects, one speck is less than a hundredth
    head = build_head(InstanceTask(decoder="distance"), 2)
    seen = cells.copy()
    far = ndimage.distance_transform_edt(cells == 0)
    seen[np.unravel_index(far.argmax(), far.shape)] = cells.max() + 1
    foreground = np.where(seen > 0, 0.9, 0.05).astype(np.float32)
    maps = head.targets(seen, (1.0, 1.0))
    maps[1] = np.where(maps[1] > 0, 9.0, -9.0)
    output = DenseOutput(np.stack([1 - foreground, foreground]), maps, (1.0, 1.0))
    case = ValidationOutput(output, cells, np.zeros(cells.shape, bool))
    assert (tune_decoding(head, [case], "distance", InstanceDecoding()).options.smallest > 1) is dropped
