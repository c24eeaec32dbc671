import math

import numpy as np
import pytest

from medseg.metrics import (
    LesionOptions,
    MeasureOptions,
    average_precision,
    binary_metrics,
    boundary_iou,
    cldice,
    lesion_metrics,
    measure_case,
)
from medseg.metrics.case.measure import size_columns

EVERY_GROUP = ("overlap", "boundary", "topology", "lesions")


def random_maps(shape=(14, 12, 9)):
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 4, shape).astype(np.uint8)
    return reference, np.where(rng.random(shape) < 0.8, reference, 0)


@pytest.mark.parametrize("surface", ["surfel", "voxel"])
def test_a_row_has_the_scores_of_the_single_functions(surface):
    reference, prediction = random_maps()
    spacing, labels = (0.7, 1.0, 2.5), {"one": [1], "two and three": [2, 3]}
    options = MeasureOptions(1.5, surface, groups=EVERY_GROUP)
    rows = measure_case(reference, prediction, labels, spacing, options)
    assert [(row["label"], row["name"]) for row in rows] == [("1", "one"), ("2+3", "two and three")]
    for row, values in zip(rows, labels.values(), strict=True):
        masks = np.isin(reference, values), np.isin(prediction, values)
        binary = binary_metrics(*masks, spacing, 1.5, surface=surface)
        for key in ("dice", "iou", "accuracy", "hd", "hd95", "assd", "masd", "nsd"):
            assert row[key] == pytest.approx(binary[key]), key
        assert row["boundary_iou"] == boundary_iou(*masks, spacing, 1.5)
        assert row["cldice"] == cldice(*masks)
        lesions = lesion_metrics(*masks)
        assert (row["lesions_reference"], row["lesion_f1"]) == (lesions["n_reference"], lesions["f1"])
        assert row["reference_volume_mm3"] == pytest.approx(masks[0].sum() * 0.7 * 2.5)
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == reference.size


def test_groups_choose_the_columns():
    reference, prediction = random_maps((6, 7))
    sizes = ["reference_area_mm2", "predicted_area_mm2", "tp", "fp", "fn", "tn"]
    rows = measure_case(reference, prediction, {"a": [1]}, (1, 1), MeasureOptions(groups=("topology",)))
    expected = ["label", "name", "cldice", "betti0_error", "betti1_error", *sizes]
    assert list(rows[0]) == expected
    distances = MeasureOptions(groups=("boundary",), percentiles=(50, 99.5, 100))
    row = measure_case(reference, prediction, {"a": [1]}, (1, 1), distances)[0]
    assert list(row)[2:-6] == ["hd", "hd50", "hd99.5", "assd", "masd", "nsd", "boundary_iou"]
    assert row["hd50"] <= row["hd99.5"] <= row["hd"]


def test_tolerance_of_each_label():
    # two squares, each shifted by 2 pixels
    reference, prediction = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    for value, column in ((1, 2), (2, 16)):
        reference[4:12, column : column + 8] = value
        prediction[6:14, column : column + 8] = value
    options = MeasureOptions({"a": 2.0, "b": 0.5}, groups=("boundary",))
    rows = measure_case(reference, prediction, {"a": [1], "b": [2]}, (1, 1), options)
    assert rows[0]["nsd"] == 1.0
    assert rows[1]["nsd"] < 0.6
    with pytest.raises(ValueError, match="no value for label 'c'"):
        measure_case(reference, prediction, {"c": [1]}, (1, 1), options)


@pytest.mark.parametrize("order", ["C", "F"])
def test_ignored_voxels_do_not_count(order):
    # the false positive and the missed pixel have the ignored value in the reference
    reference = np.array([[1, 1, 0, 9], [0, 9, 0, 0]], order=order)
    prediction = np.array([[1, 1, 0, 1], [0, 0, 0, 0]], order=order)
    options = MeasureOptions(ignore_value=9, groups=("overlap", "boundary", "calibration"))
    probability = prediction * 0.5
    row = measure_case(reference, prediction, {"a": [1]}, (1, 1), options, {"a": probability})[0]
    assert (row["dice"], row["hd"], row["accuracy"]) == (1.0, 0.0, 1.0)
    assert (row["tp"], row["tn"]) == (2, 4)
    assert row["brier"] == pytest.approx(2 * 0.25 / 6)
    with pytest.raises(ValueError, match="including the ignored 9"):
        measure_case(reference, prediction, {"a": [1, 9]}, (1, 1), options)


def test_calibration_needs_probabilities():
    reference, prediction = random_maps((6, 7))
    options = MeasureOptions(groups=("calibration",))
    probability = np.random.default_rng(1).random((6, 7))
    row = measure_case(reference, prediction, {"a": [1]}, (1, 1), options, {"a": probability})[0]
    assert row["average_precision"] == pytest.approx(average_precision(probability, reference == 1))
    with pytest.raises(ValueError, match=r"there are none for \['a'\]"):
        measure_case(reference, prediction, {"a": [1]}, (1, 1), options)
    with pytest.raises(ValueError, match="shape"):
        measure_case(reference, prediction, {"a": [1]}, (1, 1), options, {"a": probability[:3]})


def test_empty_labels():
    empty, some = np.zeros((5, 5, 5), np.uint8), np.zeros((5, 5, 5), np.uint8)
    some[1:4, 1:4, 1:4] = 1
    options = MeasureOptions(groups=EVERY_GROUP, lesions=LesionOptions(brats="MET", size_edges=(5,)))
    both = measure_case(empty, empty, {"a": [1]}, (1, 1, 1), options)[0]
    undefined = ("dice", "hd95", "nsd", "boundary_iou", "cldice", "lesion_f1", "kappa", "mcc")
    assert all(math.isnan(both[key]) for key in undefined)
    missed = measure_case(some, empty, {"a": [1]}, (1, 1, 1), options)[0]
    assert all(missed[key] == 0 for key in undefined if key != "hd95")
    assert (missed["hd95"], missed["betti0_error"], missed["fn_volume"]) == (math.inf, 1, 27)
    assert (missed["brats_dice"], missed["brats_hd95"]) == (0, 374)


def test_without_spacing_distances_are_in_pixels():
    reference, prediction = np.zeros((5, 9), np.uint8), np.zeros((5, 9), np.uint8)
    reference[2, 2], prediction[2, 5] = 1, 1
    row = measure_case(reference, prediction, {"a": [1]}, None, MeasureOptions(surface="voxel"))[0]
    assert (row["hd"], row["reference_area_px"]) == (3.0, 1.0)
    assert size_columns(2, "mm") == ("reference_area_mm2", "predicted_area_mm2")


def test_negative_and_large_values():
    reference = np.array([[-3, 70000, 0], [0, 70000, 5]], np.int64)
    labels = {"a": [-3], "b": [70000], "c": [5, -3], "d": [0]}
    rows = measure_case(reference, reference, labels, (1, 1))
    assert [row["tp"] for row in rows] == [1, 2, 2, 2]
    assert all(row["dice"] == 1.0 for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": ("charm",)}, "groups contain"),
        ({"like": "me"}, "like is 'me'"),
        ({"surface": "mesh"}, "surface is 'mesh'"),
        ({"percentiles": (0,)}, "percentiles"),
        ({"beta": 0}, "beta is 0"),
        ({"boundary_iou_mm": -1}, "-1"),
    ],
)
def test_unusable_options(options, message):
    with pytest.raises(ValueError, match=message):
        MeasureOptions(**options)


def test_unusable_arrays():
    with pytest.raises(ValueError, match="dtype float64"):
        measure_case(np.zeros((2, 2)), np.zeros((2, 2)), {"a": [1]}, (1, 1))
    with pytest.raises(ValueError, match="expected the reference's"):
        measure_case(np.zeros((2, 2), int), np.zeros((2, 3), int), {"a": [1]}, (1, 1))
    with pytest.raises(ValueError, match="no values"):
        measure_case(np.zeros((2, 2), int), np.zeros((2, 2), int), {"a": []}, (1, 1))
