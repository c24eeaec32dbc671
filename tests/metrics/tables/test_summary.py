import csv
import json
import math

import numpy as np
import pytest

from medseg.metrics import (
    ScoreOptions,
    case_rows,
    dataset_scores,
    summarize,
    to_json,
    write_csv,
    write_summary,
)
from medseg.metrics.tables.summary import DISTANCES


def row(case, name, *, tp=0, fp=0, fn=0, distance=1.0, dice=0.5, iou=0.4):
    return {
        "case": case,
        "label": "1",
        "name": name,
        "dice": dice,
        "iou": iou,
        **dict.fromkeys(DISTANCES, distance),
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": 100,
    }


ROWS = [
    row("c1", "liver", tp=8, fp=1, fn=1, distance=2.0, dice=0.8, iou=0.8),
    row("c2", "liver", tp=2, fp=3, fn=5, distance=4.0, dice=0.4, iou=0.2),
    row("c1", "spleen", tp=4, fp=0, fn=0, distance=0.0, dice=1.0, iou=1.0),
    row("c2", "spleen", tp=0, fp=0, fn=6, distance=math.inf, dice=0.0, iou=0.0),
    row("c1", "absent", distance=math.nan, dice=math.nan, iou=math.nan),
    row("c2", "absent", distance=math.nan, dice=math.nan, iou=math.nan),
]


def test_summary_by_hand():
    summary = summarize(ROWS)
    assert summary["n_cases"] == 2
    liver, spleen = summary["labels"]["liver"], summary["labels"]["spleen"]
    assert liver["metrics"]["dice"]["mean"] == pytest.approx(0.6)
    assert liver["metrics"]["hd95"]["mean"] == pytest.approx(3.0)
    assert liver["dataset"]["iou"] == pytest.approx(10 / 20)  # tp 8 + 2, fp 1 + 3, fn 1 + 5
    assert liver["dataset"]["dice"] == pytest.approx(20 / 30)
    assert spleen["dataset"]["iou"] == pytest.approx(4 / 10)
    overall = summary["overall"]
    assert overall["mean_dice"]["mean"] == pytest.approx((0.6 + 0.5) / 2)  # the absent label is left out
    assert overall["mean_dice"]["n_labels"] == 2
    assert overall["miou_dataset"] == pytest.approx((0.5 + 0.4) / 2)
    assert overall["miou_per_case"] == pytest.approx((0.9 + 0.1) / 2)  # (0.8 + 1) / 2 and (0.2 + 0) / 2


def test_a_missed_structure_never_improves_a_mean():
    found = summarize([ROWS[0], row("c2", "liver", distance=900.0, dice=0.01)])
    missed = summarize([ROWS[0], row("c2", "liver", distance=math.inf, dice=0.0)], diagonal_mm=1000.0)
    for metric in DISTANCES:
        worse, better = (summary["labels"]["liver"]["metrics"][metric] for summary in (missed, found))
        assert worse["mean"] == math.inf > better["mean"]
        assert worse["mean_penalized"] == (2 + 1000) / 2 > better["mean"]
        assert (worse["n"], worse["n_inf"], worse["mean_finite"]) == (2, 1, 2.0)
    assert missed["overall"]["mean_dice"]["mean"] < found["overall"]["mean_dice"]["mean"]


def test_penalties_per_case():
    summary = summarize(ROWS, diagonal_mm={"c1": 10.0, "c2": 30.0})
    metrics = {name: label["metrics"]["hd"] for name, label in summary["labels"].items()}
    assert metrics["liver"]["mean_penalized"] == 3.0
    assert metrics["spleen"]["mean_penalized"] == 15.0  # (0 + 30) / 2
    assert math.isnan(metrics["absent"]["mean_penalized"])
    with pytest.raises(ValueError, match="no value for case c2"):
        summarize(ROWS, diagonal_mm={"c1": 10.0})


def test_the_interval_of_the_mean_dice():
    # two cases, (0.8 + 1) / 2 = 0.9 and (0.4 + 0) / 2 = 0.2: resamples give 0.9, 0.55 and 0.2
    overall = summarize(ROWS)["overall"]["mean_dice"]
    assert (overall["ci_low"], overall["ci_high"]) == pytest.approx((0.2, 0.9))
    assert to_json(summarize(ROWS, seed=1)) == to_json(summarize(ROWS, seed=1))


def test_a_summary_defines_its_numbers():
    definitions = summarize(ROWS, ScoreOptions({"liver": 2.0}, "voxel"), seed=7)["definitions"]
    assert definitions["surface"] == "voxel"
    assert definitions["tolerance_mm"] == {"liver": 2.0}
    assert "linear interpolation" in definitions["hd95"]
    assert "cumulated surfel weight" in summarize(ROWS)["definitions"]["hd95"]
    assert definitions["bootstrap"]["seed"] == 7
    assert definitions["bootstrap"]["resamples"] == 2000
    assert "mm" in definitions["spacing_units"]


def test_the_scores_of_the_data_set_come_along():
    scores = dataset_scores(np.array([[3, 1], [0, 4]]), ["background", "liver"])
    assert summarize(ROWS, dataset=scores)["dataset"]["pixel_accuracy"] == pytest.approx(7 / 8)
    assert "dataset" not in summarize(ROWS)


def test_no_rows():
    summary = summarize([])
    assert (summary["n_cases"], summary["labels"]) == (0, {})
    assert math.isnan(summary["overall"]["mean_dice"]["mean"])


def test_two_rows_for_one_case_and_label():
    with pytest.raises(ValueError, match="case c1 has two rows for label 'liver'"):
        summarize([ROWS[0], ROWS[0]])


def test_to_json_is_strict():
    value = {"a": math.nan, "b": [math.inf, -math.inf, 1.5], 3: (np.float64(2.0), np.int64(4)), "c": None}
    expected = {"a": "nan", "b": ["inf", "-inf", 1.5], "3": [2.0, 4], "c": None}
    assert to_json(value) == expected
    assert json.loads(json.dumps(to_json(value), allow_nan=False)) == expected


def test_files(tmp_path):
    reference, prediction = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    reference[1, 1] = 1
    rows = case_rows("c, 1", reference, prediction, {"spot": [1], "none": [2]}, (1, 1))
    write_csv(tmp_path / "metrics" / "cases.csv", rows)
    with (tmp_path / "metrics" / "cases.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [line["case"] for line in read] == ["c, 1", "c, 1"]
    assert [line["hd95"] for line in read] == ["inf", "nan"]
    assert list(read[0]) == list(rows[0])
    write_summary(tmp_path / "summary.json", summarize(rows))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["labels"]["spot"]["metrics"]["hd95"]["mean"] == "inf"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics", "summary.json"]


def test_tables_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        write_csv(tmp_path / "a.csv", [])
    with pytest.raises(ValueError, match="row 1 has keys"):
        write_csv(tmp_path / "a.csv", [{"a": 1}, {"b": 2}])
    assert not list(tmp_path.iterdir())
