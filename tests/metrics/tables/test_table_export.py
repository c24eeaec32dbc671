import csv
import json
import math

import numpy as np
import pytest

from medseg.metrics import case_rows, long_rows, summarize, to_json, write_csv, write_summary


def test_long_rows_name_their_units():
    wide = {"case": "a", "label": "1", "name": "x", "status": "scored", "dice": 0.5, "hd95": math.inf}
    wide |= {"reference_area_px": 7.0, "tp": 3, "spacing_px": "1x1", "diagonal_px": 9.0}
    rows = long_rows([wide, wide | {"case": "b", "status": "missing"}], "px")
    assert [(row["metric"], row["value"], row["unit"]) for row in rows[:4]] == [
        ("dice", 0.5, "1"),
        ("hd95", math.inf, "px"),
        ("reference_area_px", 7.0, "px"),
        ("tp", 3, "voxels"),
    ]
    assert {(row["case"], row["status"]) for row in rows} == {("a", "scored"), ("b", "missing")}
    assert len(rows) == 8


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
