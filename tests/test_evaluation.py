import csv
import json

import numpy as np
import pytest
from conftest import write_picture, write_volume

from medseg.errors import ConfigError, DataError, GeometryError
from medseg.evaluation import evaluate_cases, parse_labels


@pytest.fixture
def folders(tmp_path):
    reference = np.zeros((10, 10, 10), np.uint8)
    reference[2:6, 2:6, 2:6] = 4
    prediction = np.zeros((10, 10, 10), np.uint8)
    prediction[2:6, 2:6, 3:7] = 4  # moved by one voxel: overlap 48 of 64
    for case, guess in (("a", prediction), ("b", reference)):
        write_volume(tmp_path / "labels" / f"{case}.nii.gz", reference)
        write_volume(tmp_path / "predictions" / f"{case}.nii.gz", guess)
    write_volume(tmp_path / "labels" / "never_predicted.nii.gz", reference)
    (tmp_path / "predictions" / "medseg.json").write_text(
        json.dumps({"labels": {"names": {"background": [0], "cube": [4]}}})
    )
    return tmp_path


def test_tables_by_hand(folders):
    result = evaluate_cases(folders / "predictions", folders / "labels", folders / "out")
    assert [row["case"] for row in result.rows] == ["a", "b"]
    assert result.rows[0]["dice"] == pytest.approx(2 * 48 / 128)
    assert result.rows[0]["iou"] == pytest.approx(48 / 80)
    assert result.rows[0]["label"] == "4"
    assert result.rows[0]["reference_volume_mm3"] == 64
    with (folders / "out" / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["cube", "cube"]
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["overall"]["mean_dice"]["mean"] == pytest.approx((0.75 + 1) / 2)
    # IoU over the dataset: (48 + 64) / (80 + 64)
    assert summary["dataset"]["miou_without_background"] == pytest.approx(112 / 144)
    # 32 of 2000 voxels are wrong
    assert summary["dataset"]["pixel_accuracy"] == pytest.approx(1 - 32 / 2000)


def test_a_missed_structure_is_counted_not_averaged_away(folders):
    write_volume(folders / "predictions" / "a.nii.gz", np.zeros((10, 10, 10), np.uint8))
    result = evaluate_cases(folders / "predictions", folders / "labels")
    hd95 = result.summary["labels"]["cube"]["metrics"]["hd95"]
    assert hd95["n_inf"] == 1
    assert hd95["mean"] == np.inf
    assert result.summary["overall"]["mean_dice"]["mean"] == pytest.approx(0.5)


def test_references_with_a_suffix_and_ignored_pixels(tmp_path):
    reference = np.zeros((8, 8), np.uint8)
    reference[:, 4:] = 1
    reference[0] = 9
    prediction = np.zeros((8, 8), np.uint8)
    prediction[0] = 1  # wrong only where the reference says nothing
    prediction[1:, 4:] = 1
    write_picture(tmp_path / "p" / "x.png", prediction)
    write_picture(tmp_path / "r" / "x_1stHO.png", reference)
    labels = {"names": {"background": [0], "half": [1]}, "ignore_value": 9}
    (tmp_path / "p" / "medseg.json").write_text(json.dumps({"labels": labels}))
    result = evaluate_cases(tmp_path / "p", tmp_path / "r")
    assert result.rows[0]["dice"] == 1
    assert result.summary["dataset"]["pixel_accuracy"] == 1


def test_regions_are_unions(tmp_path):
    reference = np.zeros((6, 6, 6), np.uint8)
    reference[1:5, 1:5, 1:5] = 1
    reference[2:4, 2:4, 2:4] = 2
    prediction = np.where(reference == 2, 1, reference).astype(np.uint8)  # core missed, whole right
    write_volume(tmp_path / "p" / "x.nii.gz", prediction)
    write_volume(tmp_path / "r" / "x.nii.gz", reference)
    labels = {
        "names": {"background": [0], "rim": [1], "core": [2]},
        "regions": {"whole": ["rim", "core"], "core": ["core"]},
    }
    (tmp_path / "p" / "medseg.json").write_text(json.dumps({"labels": labels}))
    rows = {row["name"]: row for row in evaluate_cases(tmp_path / "p", tmp_path / "r").rows}
    assert rows["whole"]["dice"] == 1
    assert rows["whole"]["label"] == "1+2"
    assert rows["core"]["dice"] == 0


def test_a_prediction_without_reference_is_named(folders):
    write_volume(folders / "predictions" / "stranger.nii.gz", np.zeros((10, 10, 10), np.uint8))
    with pytest.raises(DataError, match="stranger"):
        evaluate_cases(folders / "predictions", folders / "labels")


def test_differing_grids_are_named(folders):
    affine = np.diag([1, 1, 1.5, 1])
    write_volume(folders / "predictions" / "a.nii.gz", np.zeros((10, 10, 10), np.uint8), affine)
    # the far corner is 9 slices of 0.5 mm off
    with pytest.raises(GeometryError, match=r"case a.*4\.5 mm"):
        evaluate_cases(folders / "predictions", folders / "labels")


def test_labels_from_the_command_line():
    labels = parse_labels("organ=1,vessels=2+3")
    assert labels.names == {"background": (0,), "organ": (1,), "vessels": (2, 3)}
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parse_labels("organ")
    with pytest.raises(ConfigError, match="more than one name"):
        parse_labels("a=1,b=1")
    with pytest.raises(ConfigError, match=r"--labels 'a=1,a=2': 'a' stands there twice"):
        parse_labels("a=1,a=2")


def test_labels_are_guessed_from_the_references_where_nobody_names_them(folders):
    (folders / "predictions" / "medseg.json").unlink()
    rows = evaluate_cases(folders / "predictions", folders / "labels").rows
    assert {row["name"] for row in rows} == {"foreground"}
