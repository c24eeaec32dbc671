import math

import numpy as np
import pytest

from medseg.metrics import LesionOptions, lesion_metrics, lesion_table
from medseg.metrics.lesions.components import component_overlaps
from medseg.metrics.lesions.detection import stratum_sensitivities


def test_detection_by_hand():
    # reference: A 4, B 4, C 1 pixels. prediction: 2 of A plus 1 beyond, another 1 of A, 1 elsewhere
    reference, prediction = np.zeros((9, 12), np.uint8), np.zeros((9, 12), np.uint8)
    reference[0, 0:4] = reference[3, 0:4] = reference[8, 11] = 1
    prediction[0, 0:2] = prediction[1, 0] = 1  # shares 2 of 4 + 3 - 2 = 5: IoU 0.4
    prediction[0, 3] = 1  # shares 1 of 4: IoU 0.25, but A is taken
    prediction[6, 6] = 1
    scores = lesion_metrics(reference, prediction)
    assert (scores["n_reference"], scores["n_prediction"]) == (3, 3)
    assert (scores["tp"], scores["fp"], scores["fn"]) == (1, 2, 2)
    assert scores["sensitivity"] == scores["precision"] == scores["f1"] == pytest.approx(1 / 3)
    assert scores["sensitivity_any"] == pytest.approx(1 / 3)
    assert scores["precision_any"] == pytest.approx(2 / 3)
    assert scores["mean_iou"] == pytest.approx(0.4)
    assert scores["mean_dice"] == pytest.approx(4 / 7 / 3)  # A 2·2 / (4 + 3), the others 0
    assert scores["fp_any"] == 1
    assert scores["f1_any"] == pytest.approx(2 * (1 / 3) * (2 / 3))
    assert lesion_metrics(reference, prediction, min_iou=0.5)["tp"] == 0


def test_diagonal_neighbors_are_one_lesion():
    for ndim in (2, 3):
        mask = np.zeros((4,) * ndim, bool)
        mask[(0,) * ndim] = mask[(1,) * ndim] = True
        assert lesion_metrics(mask, mask)["n_reference"] == 1


def test_nothing_to_find():
    empty, full = np.zeros((4, 4)), np.ones((4, 4))
    both = lesion_metrics(empty, empty)
    assert (both["n_reference"], both["n_prediction"], both["tp"]) == (0, 0, 0)
    assert all(math.isnan(both[key]) for key in ("sensitivity", "precision", "f1", "sensitivity_any"))
    missed = lesion_metrics(full, empty)
    assert missed["f1"] == missed["sensitivity"] == 0.0
    assert math.isnan(missed["precision"])


def test_errors():
    with pytest.raises(ValueError, match="min_iou is 0"):
        lesion_metrics(np.ones((3, 3)), np.ones((3, 3)), min_iou=0)


def test_a_component_over_two_lesions_is_matched_with_the_better_one():
    # 5 pixels cover all 3 of A (IoU 3/5), the gap and 1 of the 3 of B (IoU 1/7): they go to A, B is missed
    reference, prediction = np.zeros((3, 9), np.uint8), np.zeros((3, 9), np.uint8)
    reference[0, 0:3] = reference[0, 4:7] = 1
    prediction[0, 0:5] = 1
    scores = lesion_metrics(reference, prediction)
    assert (scores["tp"], scores["fp"], scores["fn"]) == (1, 0, 1)
    assert scores["sensitivity_any"] == 1.0
    assert scores["mean_iou"] == pytest.approx(3 / 5)  # 3 shared of 5


def test_one_side_without_lesions():
    full, empty = np.ones((4, 4)), np.zeros((4, 4))
    assert lesion_metrics(full, empty)["f1_any"] == lesion_metrics(empty, full)["f1_any"] == 0.0
    assert math.isnan(lesion_metrics(empty, empty)["f1_any"])


def lesions_of_two_sizes():
    # voxels of 2 mm²: A 4 voxels (8 mm²) found whole, B 1 voxel (2 mm²) missed
    reference, prediction = np.zeros((6, 9), np.uint8), np.zeros((6, 9), np.uint8)
    reference[1, 1:5] = prediction[1, 1:5] = 1
    reference[4, 7] = 1
    return reference, prediction


def test_sensitivity_by_size():
    overlaps = component_overlaps(*(mask > 0 for mask in lesions_of_two_sizes()))
    scores = stratum_sensitivities(overlaps, 2.0, LesionOptions(size_edges=(2, 7, 100)))
    expected = {"<=2": 0.0, "<=7": math.nan, "<=100": 1.0, ">100": math.nan}
    assert scores == pytest.approx(expected, nan_ok=True)
    assert stratum_sensitivities(overlaps, 2.0, LesionOptions()) == {}


def test_table_of_lesions():
    rows = lesion_table(*lesions_of_two_sizes(), (1.0, 2.0), LesionOptions(size_edges=(5.0,)))
    assert [row["size"] for row in rows] == [8.0, 2.0]
    assert [row["stratum"] for row in rows] == [">5", "<=5"]
    assert [row["detected"] for row in rows] == [True, False]
    assert [row["center"] for row in rows] == [(1.0, 2.5), (4.0, 7.0)]
    assert lesion_table(np.zeros((3, 3)), np.zeros((3, 3)), (1, 1)) == []


@pytest.mark.parametrize("options", [{"min_iou": 1.5}, {"size_edges": (5.0, 2.0)}, {"size_edges": (0.0,)}])
def test_unusable_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LesionOptions(**options)
