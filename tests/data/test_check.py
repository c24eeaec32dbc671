import shutil

import numpy as np
import pytest
from conftest import write_balls, write_volume

from medseg.cli import run
from medseg.data.check import check_dataset
from medseg.data.labelling import LabelStatement
from medseg.data.labels import Labels

LABELS = Labels(names={"background": (0,), "ball": (1,), "core": (2,)})


def kinds(report):
    return {(f.case, f.kind) for f in report.problems}


def test_a_sound_dataset_has_no_findings(balls):
    report = check_dataset(balls, stated=LabelStatement(LABELS))
    assert report.findings == []
    assert len(report.facts) == 6


def test_every_planted_fault_is_found_and_named(tmp_path):
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
    report = check_dataset(root, stated=LabelStatement(LABELS))
    assert kinds(report) == {
        ("ball_0", "partner"),
        ("ball_1", "grid"),
        ("ball_2", "values"),
        ("ball_3", "unreadable"),
        ("ball_4", "unreadable"),
        ("ball_5", "unreadable"),
        ("ball_6", "grid"),
        ("ball_7", "duplicate"),
    }
    messages = {f.case: f.message for f in report.problems}
    assert "7 mm" in messages["ball_1"]
    assert "9 (8000 voxels)" in messages["ball_2"]
    assert "NaN" in messages["ball_4"]
    assert "ball_7, ball_8" in messages["ball_7"]
    assert all(f.way_out for f in report.findings)


def test_a_copy_in_another_part_is_a_leak(tmp_path):
    source = write_balls(tmp_path / "balls", cases=2)
    for part, name in (("train", "ball_0"), ("test", "again")):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / part).mkdir(parents=True)
            shutil.copy(source / kind / "ball_0.nii.gz", tmp_path / "data" / kind / part / f"{name}.nii.gz")
    assert [f.kind for f in check_dataset(tmp_path / "data").problems] == ["leak"]


def test_far_intensities_and_coarse_slices_are_notes(tmp_path):
    root = write_balls(tmp_path / "data", cases=6)
    label = np.zeros((12, 12, 4), np.uint8)
    label[3:9, 3:9, 1:3] = 1
    write_volume(root / "images" / "x.nii.gz", label.astype(np.float32) * 1e6, np.diag([1, 1, 5, 1.0]))
    write_volume(root / "labels" / "x.nii.gz", label, np.diag([1, 1, 5, 1.0]))
    report = check_dataset(root, stated=LabelStatement(LABELS))
    assert report.problems == []
    assert [(f.case, f.kind) for f in report.findings] == [
        ("x", "anisotropy"),
        ("x", "dtype"),
        ("x", "intensity"),
    ]


def test_labels_said_to_be_annotated_must_be_known(tmp_path):
    root = write_balls(tmp_path / "data", cases=2)
    (tmp_path / "m.csv").write_text(
        "image,label,labelled\n"
        "data/images/ball_0.nii.gz,data/labels/ball_0.nii.gz,ball\n"
        "data/images/ball_1.nii.gz,data/labels/ball_1.nii.gz,ball;bal\n"
    )
    report = check_dataset(tmp_path / "m.csv", stated=LabelStatement(LABELS))
    assert kinds(report) == {("ball_1", "labelled")}
    assert "['bal'] are not known; known: background, ball, core" in report.problems[0].message
    assert root.is_dir()


def test_an_image_of_one_value_is_a_note(tmp_path):
    root = write_balls(tmp_path / "data", cases=2)
    write_volume(root / "images" / "ball_1.nii.gz", np.full((20, 20, 20), 4, np.int16))
    report = check_dataset(root, stated=LabelStatement(LABELS))
    assert report.problems == []
    assert ("ball_1", "every voxel of its image is 4") in {(f.case, f.message) for f in report.findings}


def test_the_command_exits_by_what_it_finds(balls, tmp_path, capsys):
    assert run(["data", "check", str(balls)]) == 0
    assert "6 readable cases, 0 problems" in capsys.readouterr().out
    root = write_balls(tmp_path / "data", cases=3)
    (root / "labels" / "ball_0.nii.gz").unlink()
    assert run(["data", "check", str(root), "--json"]) == 3
    assert '"partner"' in capsys.readouterr().out


@pytest.mark.data
@pytest.mark.parametrize("name", ["hippocampus", "nuclei", "retina_chase", "camvid", "membrane_isbi"])
def test_no_false_alarm_on_real_data(data_root, name):
    assert check_dataset(data_root / name).problems == []
