import shutil

import numpy as np
import pytest
from conftest import write_balls, write_volume

from medseg.cli.main import run
from medseg.data.curation.check import check_dataset
from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.options import DataConfig

LABELS = LabelSchema(names={"background": (0,), "ball": (1,), "core": (2,)})


def kinds(report):
    return {(f.subject, f.topic) for f in report.problems}


def test_a_valid_dataset_has_no_findings(balls):
    report = check_dataset(balls, schema=LABELS)
    assert report.findings == []
    assert len(report.statistics) == 6


def test_every_planted_fault_is_reported(tmp_path):
    root = write_balls(tmp_path / "data", cases=10)
    images, labels = root / "images", root / "labels"
    blank = np.zeros((20, 20, 20), np.uint8)
    moved = np.eye(4)
    moved[0, 3] = 7
    (labels / "ball_0.nii.gz").unlink()
    write_volume(labels / "ball_1.nii.gz", blank, moved)
    write_volume(labels / "ball_2.nii.gz", blank + 9)
    whole = (images / "ball_3.nii.gz").read_bytes()
    (images / "ball_3.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_volume(images / "ball_4.nii.gz", np.full((20, 20, 20), np.nan, np.float32))
    (images / "ball_5.nii.gz").write_bytes(b"")
    write_volume(labels / "ball_6.nii.gz", blank[:, :, :19])
    shutil.copy(images / "ball_8.nii.gz", images / "ball_7.nii.gz")
    report = check_dataset(root, schema=LABELS)
    assert kinds(report) == {
        ("ball_0", "partner"),
        ("ball_1", "grid"),
        ("ball_2", "values"),
        ("ball_3", "unreadable"),
        ("ball_4", "unreadable"),
        ("ball_5", "unreadable"),
        ("ball_6", "grid"),
    }
    messages = {f.subject: f.message for f in report.findings}
    assert "7 mm" in messages["ball_1"]
    assert messages["ball_2"] == "label value 9 is not declared: 8,000 voxels in 1 case (ball_2: 8,000)"
    assert "NaN" in messages["ball_4"]
    assert "ball_7, ball_8" in messages["ball_7"]
    assert all(f.hint for f in report.findings)


def test_a_copy_in_another_part_is_a_leak(tmp_path):
    source = write_balls(tmp_path / "balls", cases=2)
    for part, name in (("train", "ball_0"), ("test", "again")):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / part).mkdir(parents=True)
            shutil.copy(source / kind / "ball_0.nii.gz", tmp_path / "data" / kind / part / f"{name}.nii.gz")
    assert [f.topic for f in check_dataset(tmp_path / "data").problems] == ["leak"]


def test_far_intensities_and_coarse_slices_are_notes(tmp_path):
    root = write_balls(tmp_path / "data", cases=6)
    label = np.zeros((12, 12, 4), np.uint8)
    label[3:9, 3:9, 1:3] = 1
    write_volume(root / "images" / "x.nii.gz", label.astype(np.float32) * 1e6, np.diag([1, 1, 5, 1.0]))
    write_volume(root / "labels" / "x.nii.gz", label, np.diag([1, 1, 5, 1.0]))
    report = check_dataset(root, schema=LABELS)
    assert report.problems == []
    assert [(f.subject, f.topic) for f in report.findings] == [
        ("x", "anisotropy"),
        ("x", "dtype"),
        ("x", "intensity"),
    ]


def test_a_finding_of_several_cases_names_them_and_its_quantity(tmp_path, capsys):
    root = write_balls(tmp_path / "data", cases=6)
    for name in ("x", "y"):
        label = np.zeros((8, 8, 8), np.float32)
        label[2:6, 2:6, 2:6] = 1
        write_volume(root / "images" / f"{name}.nii.gz", label * 1e6)
        write_volume(root / "labels" / f"{name}.nii.gz", label)
    assert run(["data", "check", str(root), "--labels", "ball=1,core=2"]) == 0
    printed = capsys.readouterr().out
    assert "x and 1 more: label map stored as float32 but with whole numbers only" in printed
    assert "x and 1 more: the median intensity of the labeled voxels (absolute values) differs" in printed
    assert "x (1e+06), y (1e+06)" in printed


def test_annotated_labels_must_be_declared(tmp_path):
    root = write_balls(tmp_path / "data", cases=2)
    (tmp_path / "m.csv").write_text(
        "image,label,labeled\n"
        "data/images/ball_0.nii.gz,data/labels/ball_0.nii.gz,ball\n"
        "data/images/ball_1.nii.gz,data/labels/ball_1.nii.gz,ball;bal\n"
    )
    report = check_dataset(tmp_path / "m.csv", schema=LABELS)
    assert kinds(report) == {("ball_1", "labeled")}
    assert "unknown annotated labels ['bal']; known: background, ball, core" in report.problems[0].message
    assert root.is_dir()


def test_an_image_of_one_value_is_a_note(tmp_path):
    root = write_balls(tmp_path / "data", cases=2)
    write_volume(root / "images" / "ball_1.nii.gz", np.full((20, 20, 20), 4, np.int16))
    report = check_dataset(root, schema=LABELS)
    assert report.problems == []
    assert ("ball_1", "every voxel of the image is 4") in {(f.subject, f.message) for f in report.findings}


def test_the_exit_code_depends_on_the_findings(balls, tmp_path, capsys):
    assert run(["data", "check", str(balls)]) == 0
    assert "6 readable cases, 0 problems" in capsys.readouterr().out
    root = write_balls(tmp_path / "data", cases=3)
    (root / "labels" / "ball_0.nii.gz").unlink()
    assert run(["data", "check", str(root), "--json"]) == 3
    assert '"partner"' in capsys.readouterr().out


def planted(root, cases, value=9):
    """Balls, some cases of which hold one voxel of an undeclared value."""
    write_balls(root, cases=4)
    for case in cases:
        label = read_scan(root / "labels" / f"{case}.nii.gz").array[0].copy()
        label[0, 0, 0] = value
        write_volume(root / "labels" / f"{case}.nii.gz", label)
    return root


def test_a_value_shared_by_several_cases_is_reported(tmp_path, capsys):
    root = planted(tmp_path / "data", ["ball_1", "ball_3"])
    found = [f for f in check_dataset(root, schema=LABELS).problems if f.topic == "values"]
    assert [f.message for f in found] == [
        "label value 9 is not declared: 2 voxels in 2 cases (ball_1: 1, ball_3: 1)"
    ]
    assert found[0].hint.endswith("--fix DIR --map 9=NEW")
    assert run(["data", "check", str(root)]) == 0  # without declared labels it is a note
    out = capsys.readouterr().out
    assert "9: 2 voxels in 2 cases" in out
    assert "data.labels='{background: 0, label_1: 1, label_2: 2, label_9: 9}'" in out


def test_findings_come_first_and_only_their_cases_are_listed(tmp_path, capsys):
    root = planted(tmp_path / "data", ["ball_1"])
    assert run(["data", "check", str(root), "--labels", "ball=1,core=2"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("problem  ball_1: label value 9 is not declared")
    assert [line.split()[0] for line in lines if "20×20×20" in line] == ["ball_1"]
    assert lines[-2:] == [
        "3 cases not listed (--all lists all cases)",
        "4 readable cases, 1 problem",
    ]
    run(["data", "check", str(root), "--labels", "ball=1,core=2", "--all"])
    assert sum("20×20×20" in line for line in capsys.readouterr().out.splitlines()) == 4


def test_others_applies_with_named_labels(tmp_path, capsys):
    root = planted(tmp_path / "data", ["ball_1"])
    named = ["data", "check", str(root), "data.labels.others=background", "--labels", "ball=1,core=2"]
    assert run(named) == 0
    assert "value 9 is not declared and counts as background" in capsys.readouterr().out
    assert run([*named, "--fix", str(tmp_path / "fixed")]) == 0
    out = capsys.readouterr().out
    assert "repaired ball_1: undeclared label values set by data.labels.others=background: 9 to 0" in out
    fixed = read_scan(tmp_path / "fixed" / "labels" / "ball_1.nii.gz").array[0]
    assert sorted(np.unique(fixed)) == [0, 1, 2]


def test_blank_slices_are_no_copies_of_each_other(tmp_path):
    root = write_balls(tmp_path / "data", cases=3)
    for case in ("ball_0", "ball_1"):
        write_volume(root / "images" / f"{case}.nii.gz", np.zeros((20, 20, 20), np.int16))
    assert check_dataset(root, config=DataConfig(duplicates="refuse"), schema=LABELS).problems == []


def test_copies_are_found_by_voxels_and_treated_as_in_training(tmp_path):
    root = write_balls(tmp_path / "data", cases=3)
    copied = read_scan(root / "images" / "ball_0.nii.gz").array[0]
    (root / "images" / "ball_1.nii.gz").unlink()
    write_volume(root / "images" / "ball_1.nii", copied)  # other bytes, the same voxels
    for duplicates, severity in (("group", "note"), ("drop", "note"), ("refuse", "problem")):
        report = check_dataset(root, config=DataConfig(duplicates=duplicates), schema=LABELS)
        found = [(f.status, f.message) for f in report.findings if f.topic == "duplicate"]
        assert found == [(severity, "2 cases have the same image: ball_0, ball_1")]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["hippocampus", "nuclei", "retina_chase", "camvid", "membrane_isbi"])
def test_real_data_gives_no_false_findings(data_root, name):
    assert check_dataset(data_root / name).problems == []
