"""Names of label values from files beside the data."""

import json

import numpy as np
import pytest
from conftest import write_picture

from medseg.cli.main import run
from medseg.data.labels.label_plan import plan_labels
from medseg.data.labels.names.files import read_label_names

ITK_SNAP = """################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "Clear Label"
  128   255    0    0        1  1  1    "cytoplasm"
  255     0  255    0      0.5  1  1    "nucleus"
    7     1    2    3        1  1  1    "not in this dataset"
"""
SLICER = """# Color table file colors.ctbl
# 3 values
0 Background 0 0 0 0
128 cytoplasm 255 0 0 255
255 nucleus 0 255 0 255
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "128 cytoplasm\n255 nucleus\n"),
        ("labels.txt", "# names\n128: cytoplasm\n\n255: nucleus\n"),
        ("labels.txt", "cytoplasm=128\nnucleus=255"),
        ("labels/labels.txt", "0,background\n128,cytoplasm\n255,nucleus"),
        ("labels.json", json.dumps({"cytoplasm": 128, "nucleus": 255})),
        ("labels.json", json.dumps({"0": "background", "128": "cytoplasm", "255": "nucleus"})),
        ("labels.json", json.dumps([{"id": 128, "name": "cytoplasm"}, {"id": 255, "name": "nucleus"}])),
        ("dataset.json", json.dumps({"labels": {"background": 0, "cytoplasm": 128, "nucleus": 255}})),
        ("itksnap.label", ITK_SNAP),
        ("description.txt", ITK_SNAP),
        ("colors.ctbl", SLICER),
        ("slicer.txt", SLICER),
    ],
)
def test_names_come_from_a_file_beside_the_data(tmp_path, name, text):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    resolved = plan_labels([], folder=tmp_path).resolve({0, 128, 255})
    names = {name: value for name, (value,) in resolved.schema.names.items()}
    assert list(names.values()) == [0, 128, 255]
    assert list(names)[1:] == ["cytoplasm", "nucleus"]
    assert resolved.note == f"label names: from {tmp_path / name}"
    if text in (ITK_SNAP, SLICER):
        assert resolved.schema.colors["nucleus"] == (0, 255, 0)


@pytest.mark.parametrize(
    ("lines", "values", "expected"),
    [
        ("background\ncell\nwall", {0, 1, 2}, {"background": 0, "cell": 1, "wall": 2}),
        ("sky\nroad\ntree", {0, 1, 2}, {"sky": 0, "road": 1, "tree": 2}),
        ("cell\nwall", {0, 1, 2}, {"background": 0, "cell": 1, "wall": 2}),
    ],
)
def test_a_list_of_names_counts_from_the_background(tmp_path, lines, values, expected):
    (tmp_path / "labels.txt").write_text(lines)
    table = read_label_names(tmp_path, values)
    assert {name: group[0] for name, group in table.schema.names.items()} == expected


@pytest.mark.parametrize("text", ["cytoplasm\nnucleus\n", "a 1\nb 2\n", "a 128\na 255\n", "\x00"])
def test_a_file_that_does_not_name_all_values_is_ignored(tmp_path, text):
    (tmp_path / "labels.txt").write_text(text)
    (tmp_path / "labels.json").write_text("{")
    (tmp_path / "notes.txt").write_text("128 patients\n255 scans\n0 faults\n")
    resolved = plan_labels([], folder=tmp_path).resolve({0, 128, 255})
    assert list(resolved.schema.names) == ["background", "label_128", "label_255"]
    assert "data.labels='{background: 0, label_128: 128, label_255: 255}'" in resolved.note


def test_the_check_reports_the_source_of_names_once(tmp_path, capsys):
    pixels = [[0, 128], [255, 255]]
    for i in range(2):
        write_picture(tmp_path / "images" / f"{i}.png", np.full((2, 2), [[i, 3], [1, 2]], np.uint8))
        write_picture(tmp_path / "labels" / f"{i}.png", np.array(pixels, np.uint8))
    assert run(["data", "check", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("data.labels=") == 1
    (tmp_path / "labels.txt").write_text("128 cytoplasm\n255 nucleus\n")
    assert run(["data", "check", str(tmp_path)]) == 0
    assert "label names: from" in capsys.readouterr().out
