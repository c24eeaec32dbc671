import math

import numpy as np
import pytest

from medseg.metrics import MeasureOptions, measure_case


def measure(reference, prediction, like, **options):
    reference, prediction = (np.asarray(array, np.uint8) for array in (reference, prediction))
    return measure_case(reference, prediction, {"x": [1]}, (1, 1), MeasureOptions(like=like, **options))[0]


EMPTY, FULL = np.zeros((1, 9)), np.ones((1, 9))
ONE = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 0]])
TWO = np.array([[1, 0, 0, 0, 1, 0, 0, 0, 0]])


@pytest.mark.parametrize(("like", "expected"), [(None, 3.8), ("monai", 3.8), ("medpy", 3.6), ("nnunet", 3.6)])
def test_percentiles(like, expected):
    # border voxels: 0 one way, 0 and 4 the other: 0.95 · 4; together 0 0 4: 0.9 · 4
    assert measure(ONE, TWO, like, surface="voxel")["hd95"] == pytest.approx(expected)


def test_surface_dice_of_nnunet_is_the_mean_of_the_directions():
    assert measure(ONE, TWO, "medpy")["nsd"] == pytest.approx(2 / 3)
    assert measure(ONE, TWO, "nnunet")["nsd"] == pytest.approx((1 + 1 / 2) / 2)


def test_two_empty_masks():
    assert measure(EMPTY, EMPTY, "monai")["dice"] == measure(EMPTY, EMPTY, "monai")["iou"] == 1.0
    assert measure(EMPTY, EMPTY, "medpy")["dice"] == measure(EMPTY, EMPTY, "medpy")["recall"] == 0.0
    assert math.isnan(measure(EMPTY, EMPTY, "nnunet")["dice"])
    deepmind = measure(EMPTY, EMPTY, "deepmind")
    assert deepmind["hd"] == deepmind["hd95"] == math.inf
    assert math.isnan(deepmind["assd"])


def test_one_empty_mask():
    for like in ("monai", "medpy", "nnunet"):
        assert math.isnan(measure(ONE, EMPTY, like)["hd95"])
    assert measure(ONE, EMPTY, "monai")["hd"] == math.inf
    assert math.isnan(measure(ONE, EMPTY, "deepmind")["masd"])
    assert measure(ONE, EMPTY, "deepmind")["hd95"] == math.inf
    assert measure(ONE, EMPTY, "medpy")["dice"] == 0.0


def test_full_masks_have_no_distance_in_nnunet():
    assert math.isnan(measure(FULL, ONE, "nnunet")["hd"])
    assert measure(FULL, ONE, "medpy")["hd"] == 8.0


def test_the_library_determines_the_surface():
    assert MeasureOptions(like="deepmind", surface="voxel").elements == "surfel"
    assert MeasureOptions(like="monai").elements == "voxel"
    assert MeasureOptions(surface="voxel").elements == "voxel"
