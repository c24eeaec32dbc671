"""Every score against the brute-force values of the reference suite beside the project."""

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from medseg.metrics import (
    MeasureOptions,
    binary_calibration,
    binary_metrics,
    boundary_iou,
    calibration_metrics,
    case_rows,
    cldice,
    confusion_matrix,
    dataset_scores,
    lesion_metrics,
    lesion_table,
    measure_case,
    panoptic_quality,
    summarize,
)
from medseg.metrics.typed_wrappers import components

FOLDER = Path(__file__).parents[3] / "shared" / "fixtures" / "metrics"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (FOLDER / "public.npz").is_file(), reason="the reference suite is not there"),
]


@cache
def suite():
    expected = json.loads((FOLDER / "expected_public.json").read_text())["cases"]
    with np.load(FOLDER / "public.npz") as arrays:
        return expected, dict(arrays)


def labeled():
    expected, arrays = suite()
    for name, case in expected.items():
        for label, values in case.get("per_label", {}).items():
            masks = (arrays[f"{name}__{role}"] == int(label) for role in ("gt", "pred"))
            yield f"{name} label {label}", case, values, *masks


def number(value):
    return {"nan": math.nan, "inf": math.inf}.get(value, value)


@pytest.mark.parametrize("surface", ["surfel", "voxel"])
def test_binary_metrics(surface):
    for name, case, values, reference, prediction in labeled():
        scores = binary_metrics(reference, prediction, case["spacing"], case["tau"], surface=surface)
        expected = values["overlap"] | values[surface]
        for key, score in scores.items():
            np.testing.assert_allclose(score, number(expected[key]), 1e-6, 1e-9, err_msg=f"{name} {key}")


@pytest.mark.parametrize("surface", ["surfel", "voxel"])
def test_measure_case(surface):
    names = {"vs": "volume_similarity", "rvd": "relative_volume_difference"}
    for name, case, values, reference, prediction in labeled():
        rim = values["boundary_iou"]
        options = MeasureOptions(case["tau"], surface, boundary_iou_mm=rim["d_mm"])
        row = measure_case(reference, prediction, {"x": [1]}, case["spacing"], options)[0]
        expected = values["overlap"] | values[surface] | {"boundary_iou": rim["value"]}
        for key, value in expected.items():
            if (column := names.get(key, key)) in row:
                np.testing.assert_allclose(row[column], number(value), 1e-6, 1e-9, err_msg=f"{name} {key}")


@pytest.mark.parametrize(
    ("like", "sources"),
    [("monai", ("monai", "monai_overlap")), ("deepmind", ("deepmind",)), ("medpy", ("medpy",))],
)
def test_conventions_of_other_libraries(like, sources):
    compared = 0
    for name, case, values, reference, prediction in labeled():
        options = MeasureOptions(case["tau"], like=like)
        row = measure_case(reference, prediction, {"x": [1]}, case["spacing"], options)[0]
        for key, value in {k: v for source in sources for k, v in values["refs"][source].items()}.items():
            if key == "ERR":  # medpy raises for empty masks
                assert math.isnan(row["hd"])
                continue
            compared += 1
            np.testing.assert_allclose(row[key], number(value), 1e-5, 1e-6, err_msg=f"{name} {key}")
    assert compared > 80


def test_surface_areas():
    from medseg.metrics.surface import surface_distances

    for name, case, values, reference, prediction in labeled():
        if "area_gt" not in values["surfel"]:
            continue
        distances = surface_distances(reference, prediction, case["spacing"])
        areas = [distances.from_reference.total_weight, distances.from_prediction.total_weight]
        expected = [values["surfel"]["area_gt"], values["surfel"]["area_pred"]]
        np.testing.assert_allclose(areas, expected, rtol=1e-9, err_msg=name)


def test_boundary_iou():
    for name, case, values, reference, prediction in labeled():
        expected = values["boundary_iou"]
        score = boundary_iou(reference, prediction, case["spacing"], expected["d_mm"])
        np.testing.assert_allclose(score, number(expected["value"]), 1e-8, err_msg=name)


def test_cldice():
    for name, _, values, reference, prediction in labeled():
        if "cldice" in values["cldice"]:
            score = cldice(reference, prediction)
            np.testing.assert_allclose(score, number(values["cldice"]["cldice"]), 1e-8, err_msg=name)


@pytest.mark.parametrize("name", ["lesion2d", "lesion3d"])
@pytest.mark.parametrize(("min_iou", "key"), [(0.1, "iou_0_1"), (0.5, "iou_0_5")])
def test_lesion_metrics(name, min_iou, key):
    expected, arrays = suite()
    scores = lesion_metrics(arrays[f"{name}__gt"], arrays[f"{name}__pred"], min_iou=min_iou)
    lesion = expected[name]["lesion"]
    for score in ("tp", "fp", "fn", "sensitivity", "precision", "f1"):
        assert scores[score] == pytest.approx(lesion[key][score]), score
    assert scores["mean_iou"] == pytest.approx(lesion[key]["sq"])
    assert scores["sensitivity_any"] == pytest.approx(lesion["any_overlap"]["sensitivity_any"])
    for score in ("precision_any", "f1_any"):
        assert scores[score] == pytest.approx(lesion["any_overlap"][score])
    assert scores["fp_any"] == lesion["any_overlap"]["fp"]


@pytest.mark.parametrize("name", ["lesion2d", "lesion3d"])
def test_lesion_table(name):
    expected, arrays = suite()
    rows = lesion_table(arrays[f"{name}__gt"], arrays[f"{name}__pred"], expected[name]["spacing"])
    found = sorted(row["dice"] for row in rows)
    assert found == pytest.approx(sorted(expected[name]["lesion"]["lesion_dice_per_gt"]))


@pytest.mark.parametrize("name", ["lesion2d", "lesion3d"])
def test_panoptic_quality(name):
    expected, arrays = suite()
    scores = panoptic_quality(arrays[f"{name}_inst__gt"], arrays[f"{name}_inst__pred"])
    for score, value in scores.items():
        assert value == pytest.approx(expected[name]["pq_inst"]["own"][score]), score
    numbered = (components(arrays[f"{name}__{role}"] > 0) for role in ("gt", "pred"))
    for score, value in panoptic_quality(*numbered).items():
        assert value == pytest.approx(expected[name]["pq_cc"]["own"][score]), score


@pytest.mark.parametrize("name", ["calib_binary2d", "calib_multi3d"])
@pytest.mark.parametrize("num_bins", [10, 15])
def test_calibration_metrics(name, num_bins):
    expected, arrays = suite()
    scores = calibration_metrics(arrays[f"{name}__prob"], arrays[f"{name}__gt"], num_bins=num_bins)
    calibration = expected[name]["calibration"]
    assert scores["ece"] == pytest.approx(calibration["top_label"][str(num_bins)]["ece"])
    assert scores["mce"] == pytest.approx(calibration["top_label"][str(num_bins)]["mce"])
    assert scores["brier"] == pytest.approx(calibration["brier_multiclass"])
    assert scores["nll"] == pytest.approx(calibration["nll"])
    probabilities = arrays[f"{name}__prob"].astype(np.float64)
    probabilities /= probabilities.sum(axis=0)
    one = binary_calibration(probabilities[1], arrays[f"{name}__gt"] == 1, num_bins=num_bins)
    assert one["ece"] == pytest.approx(calibration["class1"][str(num_bins)])


def test_mean_iou_of_the_data_set():
    expected, arrays = suite()
    miou = expected["miou"]["miou"]
    names = ["background", *(f"class {value}" for value in range(1, miou["n_classes"]))]
    matrix, rows = np.zeros((len(names), len(names)), np.int64), []
    for case in miou["cases"]:
        pair = arrays[f"{case}__gt"], arrays[f"{case}__pred"]
        matrix += confusion_matrix(*pair, len(names))
        labels = {name: [value] for value, name in enumerate(names) if value}
        rows += case_rows(case, *pair, labels, expected[case]["spacing"])
    scores, overall = dataset_scores(matrix, names), summarize(rows)["overall"]
    expected_ious = [number(value) for value in miou["dataset_iou_per_class"]]
    np.testing.assert_allclose(list(scores["iou"].values()), expected_ious, 1e-8)
    assert scores["miou_without_background"] == pytest.approx(miou["dataset_miou_fg"])
    assert scores["miou_with_background"] == pytest.approx(miou["dataset_miou_with_bg"])
    assert scores["pixel_accuracy"] == pytest.approx(miou["pixel_accuracy_dataset"])
    assert overall["miou_dataset"] == pytest.approx(miou["dataset_miou_fg"])
    assert overall["miou_per_case"] == pytest.approx(miou["per_case_mean_fg"])
