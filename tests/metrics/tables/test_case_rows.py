import math

import numpy as np
import pytest

from medseg.metrics import (
    LesionOptions,
    MeasureOptions,
    ScoreOptions,
    binary_metrics,
    case_rows,
    measure_case,
    worst_rows,
)

KEYS = ["case", "label", "name", "dice", "iou", "precision", "recall", "specificity", "accuracy", "f_beta"]
KEYS += ["volume_similarity", "relative_volume_difference", "kappa", "mcc"]
KEYS += ["hd", "hd95", "assd", "masd", "nsd", "boundary_iou", "reference_volume_mm3", "predicted_volume_mm3"]
KEYS += ["tp", "fp", "fn", "tn"]


def random_pair(shape=(14, 12, 9), values=5, dtype=np.uint8):
    rng = np.random.default_rng(3)
    return (rng.integers(0, values, shape).astype(dtype) for _ in range(2))


def assert_same_scores(row, expected):
    for key in ("dice", "iou", "precision", "recall", "specificity", "hd", "hd95", "assd", "masd", "nsd"):
        np.testing.assert_allclose(row[key], expected[key], rtol=1e-12, err_msg=key)
    np.testing.assert_allclose(row["volume_similarity"], expected["vs"])


@pytest.mark.parametrize("surface", ["surfel", "voxel"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i4", np.int64])
def test_rows_agree_with_whole_masks(surface, dtype):
    reference, prediction = random_pair(dtype=dtype)
    labels = {"liver": [1], "kidneys": (2, 3), "absent": [9]}
    rows = case_rows("c1", reference, prediction, labels, (1, 2, 3), ScoreOptions(1.5, surface))
    assert [list(row) for row in rows] == [KEYS] * 3
    assert [(row["case"], row["label"], row["name"]) for row in rows] == [
        ("c1", "1", "liver"),
        ("c1", "2+3", "kidneys"),
        ("c1", "9", "absent"),
    ]
    for row, values in zip(rows, labels.values(), strict=True):
        masks = (np.isin(array, values) for array in (reference, prediction))
        assert_same_scores(row, binary_metrics(*masks, (1, 2, 3), 1.5, surface=surface))
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == reference.size


def test_volumes_by_hand():
    reference, prediction = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    reference[:2, 0, 0], prediction[:3, 0, 0] = 2, 2
    (row,) = case_rows("c", reference, prediction, {"spot": [2]}, (0.5, 2.0, 3.0))
    assert row["reference_volume_mm3"] == pytest.approx(2 * 3.0)  # a voxel has 0.5 · 2 · 3 mm³
    assert row["predicted_volume_mm3"] == pytest.approx(3 * 3.0)
    assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (2, 1, 0, 61)


def test_ignored_voxels_count_nowhere():
    # 1 1 ? ? 0 0 against 1 0 1 0 1 0 : without the two ignored, tp 1, fn 1, fp 1, tn 1
    reference = np.array([[1, 1, 255, 255, 0, 0]], np.uint8)
    prediction = np.array([[1, 0, 1, 0, 1, 0]], np.uint8)
    (row,) = case_rows(
        "c", reference, prediction, {"x": [1]}, (1, 1), ScoreOptions(surface="voxel", ignore_value=255)
    )
    assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (1, 1, 1, 1)
    # surfaces run over {0, 1} and {0, 4}: the false positive is 3 away, the miss 1
    assert row["hd"] == 3.0
    assert row["assd"] == pytest.approx((0 + 1 + 0 + 3) / 4)
    assert row["predicted_area_mm2"] == 2.0


def test_sizes_are_in_pixels_where_the_spacing_is_not_known():
    array = np.eye(4, dtype=np.uint8)
    (row,) = case_rows("c", array, array, {"x": [1]}, None)
    assert row["reference_area_px"] == row["predicted_area_px"] == 4
    assert not [key for key in row if "mm" in key]


def test_the_worst_rows_of_all_groups():
    array = np.zeros((6, 6), np.uint8)
    array[1:4, 1:4] = 1
    options = MeasureOptions(groups=("overlap", "boundary", "topology", "lesions", "calibration"))
    maps = {name: (array == value).astype(float) for name, value in (("x", 1), ("absent", 2))}
    labels = {"x": [1], "absent": [2]}
    usual = measure_case(array, array, labels, (1, 1), options, maps)
    for row, worst in zip(usual, worst_rows("c", array, labels, (1, 1), options), strict=True):
        assert ["case", *row] == list(worst)
        scores = ("dice", "precision", "specificity", "boundary_iou", "cldice", "lesion_f1")
        assert [worst[name] for name in scores] == [0.0] * 6
        assert worst["hd95"] == worst["nll"] == math.inf
        assert (worst["ece"], worst["tn"], worst["tp"], worst["fp"]) == (1.0, 0, 0, 0)
    assert worst_rows("c", array, labels, (1, 1), options)[0]["lesions_reference"] == 1


def test_the_worst_rows_of_brats_do_not_depend_on_the_reference():
    reference = np.zeros((4, 4, 4), np.uint8)
    reference[1, 1, 1:3] = 1
    options = MeasureOptions(groups=("overlap", "lesions"), lesions=LesionOptions(brats="GLI"))
    rows = worst_rows("c", reference, {"present": [1], "absent": [2]}, (1, 1, 1), options)
    assert [(row["brats_dice"], row["brats_hd95"]) for row in rows] == [(0.0, 374.0)] * 2


def test_the_worst_rows_have_the_columns_of_the_others():
    array = np.eye(4, dtype=np.uint8)
    (row,), (worst,) = (
        case_rows("c", array, array, {"x": [1]}, (1, 2)),
        worst_rows("c", array, {"x": [1]}, (1, 2)),
    )
    assert list(row) == list(worst)
    assert (worst["dice"], worst["nsd"], worst["hd95"], worst["fn"]) == (0, 0, math.inf, 4)
    assert (worst["reference_area_mm2"], worst["predicted_area_mm2"]) == (8.0, 0.0)


def test_ignoring_equals_erasing():
    reference, prediction = random_pair()
    erased_reference, erased = (np.where(reference == 4, 0, array) for array in (reference, prediction))
    labels = {"a": [1], "b": [2, 3]}
    ignored = case_rows("c", reference, prediction, labels, (1, 1, 2), ScoreOptions(ignore_value=4))
    plain = case_rows("c", erased_reference, erased, labels, (1, 1, 2))
    count = int((reference == 4).sum())
    for one, two in zip(ignored, plain, strict=True):
        assert one["tn"] == two["tn"] - count
        of_background = dict.fromkeys(("tn", "specificity", "accuracy", "kappa", "mcc"), 0)
        assert one | of_background == two | of_background


def test_missing_structures():
    reference, prediction = np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8)
    reference[1, 1], prediction[3, 3] = 1, 2
    labels = {"missed": [1], "invented": [2], "neither": [3]}
    missed, invented, neither = case_rows("c", reference, prediction, labels, (1, 1))
    assert missed["hd95"] == invented["hd95"] == math.inf
    assert missed["dice"] == invented["dice"] == missed["nsd"] == 0.0
    assert math.isnan(neither["dice"])
    assert math.isnan(neither["hd95"])


def test_a_tolerance_per_label():
    reference, prediction = np.zeros((1, 9), np.uint8), np.zeros((1, 9), np.uint8)
    reference[0, [0, 8]], prediction[0, [2, 6]] = (1, 2), (1, 2)
    tolerances = {"near": 1.0, "far": 2.0}
    labels = {"near": [1], "far": [2]}
    rows = case_rows("c", reference, prediction, labels, (1, 1), ScoreOptions(tolerances, "voxel"))
    assert [row["nsd"] for row in rows] == [0.0, 1.0]
    with pytest.raises(ValueError, match="no value for label 'other'"):
        case_rows("c", reference, prediction, {"other": [1]}, (1, 1), ScoreOptions(tolerances))


def test_errors():
    array = np.zeros((3, 3), np.uint8)
    with pytest.raises(ValueError, match="float64, expected integers"):
        case_rows("c", array.astype(float), array, {"x": [1]}, (1, 1))
    with pytest.raises(ValueError, match="'x' has no values"):
        case_rows("c", array, array, {"x": []}, (1, 1))
    with pytest.raises(ValueError, match="including the ignored 1"):
        case_rows("c", array, array, {"x": [1]}, (1, 1), ScoreOptions(ignore_value=1))
    with pytest.raises(ValueError, match="shape"):
        case_rows("c", array, array[:2], {"x": [1]}, (1, 1))
    assert case_rows("c", array, array, {}, (1, 1)) == []
