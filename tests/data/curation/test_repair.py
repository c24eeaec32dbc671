import json
import shutil

import numpy as np
import pytest
from conftest import write_balls, write_volume

from medseg.cli.main import run
from medseg.data.curation.check import check_dataset
from medseg.data.curation.repair import RepairOptions, repair
from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError

SCHEMA = LabelSchema(names={"background": (0,), "ball": (1,), "core": (2,)})


@pytest.fixture
def faulty(tmp_path):
    """Ten cases, seven of them with one fault each."""
    root = write_balls(tmp_path / "data", cases=10)
    images, labels = root / "images", root / "labels"

    def label(i):
        return read_scan(labels / f"ball_{i}.nii.gz").array[0]

    moved = np.eye(4)
    moved[0, 3] = 7
    (labels / "ball_0.nii.gz").unlink()
    write_volume(labels / "ball_1.nii.gz", label(1), moved)
    extra = label(2).copy()
    extra[0, 0, 0] = 9
    write_volume(labels / "ball_2.nii.gz", extra)
    whole = (images / "ball_3.nii.gz").read_bytes()
    (images / "ball_3.nii.gz").write_bytes(whole[: len(whole) // 2])
    holes = read_scan(images / "ball_4.nii.gz").array[0].astype(np.float32)
    holes[1, 1, 1] = np.nan
    write_volume(images / "ball_4.nii.gz", holes)
    write_volume(labels / "ball_6.nii.gz", label(6)[:, :, :19])
    shutil.copy(images / "ball_8.nii.gz", images / "ball_7.nii.gz")
    write_volume(labels / "ball_9.nii.gz", label(9).astype(np.float64))
    return root


def test_copies_are_repaired_and_the_original_is_unchanged(faulty, tmp_path):
    before = {p: p.read_bytes() for p in faulty.rglob("*") if p.is_file()}
    repairs = repair(
        check_dataset(faulty, schema=SCHEMA), tmp_path / "fixed", RepairOptions({9: 0}, "resample")
    )
    assert {p: p.read_bytes() for p in faulty.rglob("*") if p.is_file()} == before
    assert sorted(repairs.left_out) == ["ball_0", "ball_3", "ball_8"]
    assert repairs.done["ball_2"] == ["label values mapped: 9 to 0"]
    assert "7 mm apart" in repairs.done["ball_1"][0]
    assert "400 voxels of the image lie outside" in repairs.done["ball_6"][0]
    assert "1 non-finite voxels set to" in repairs.done["ball_4"][0]
    assert "float64 written as integers" in repairs.done["ball_9"][0]
    assert check_dataset(tmp_path / "fixed", schema=SCHEMA).problems == []
    record = json.loads((tmp_path / "fixed" / "repairs.json").read_text())
    assert record["left_out"]["ball_8"].endswith("as ball_7")


def test_cases_that_cannot_be_repaired_are_left_out(tmp_path):
    root = write_balls(tmp_path / "data", cases=3)
    label = read_scan(root / "labels" / "ball_0.nii.gz").array[0]
    far = np.eye(4)
    far[:3, 3] = 500
    write_volume(root / "labels" / "ball_0.nii.gz", label, far)
    write_volume(root / "images" / "ball_1.nii.gz", np.full(label.shape, np.nan, np.float32))
    repairs = repair(
        check_dataset(root, schema=SCHEMA), tmp_path / "fixed", RepairOptions(same_shape="resample")
    )
    assert sorted(repairs.left_out) == ["ball_0", "ball_1"]
    assert "is entirely outside its image" in repairs.left_out["ball_0"]
    assert "no voxel of the image is finite" in repairs.left_out["ball_1"]


def test_resampling_keeps_the_position_of_labels(faulty, tmp_path):
    before = read_scan(faulty / "labels" / "ball_1.nii.gz").array[0]
    repair(check_dataset(faulty, schema=SCHEMA), tmp_path / "fixed", RepairOptions({9: 0}, "resample"))
    after = read_scan(tmp_path / "fixed" / "labels" / "ball_1.nii.gz").array[0]
    assert np.array_equal(after[7:], before[:-7])  # the label map lay 7 mm to the right
    assert not after[:7].any()


def test_label_maps_of_the_images_shape_on_another_grid_are_not_resampled_by_default(tmp_path):
    root = write_balls(tmp_path / "data", cases=2)
    voxels = read_scan(root / "labels" / "ball_0.nii.gz").array[0]
    moved = np.eye(4)
    moved[0, 3] = 7
    write_volume(root / "labels" / "ball_0.nii.gz", voxels, moved)
    report = check_dataset(root, schema=SCHEMA)
    assert [(f.subject, f.topic) for f in report.problems] == [("ball_0", "grid")]
    assert "--same-shape=image-grid|resample" in report.problems[0].hint
    repairs = repair(report, tmp_path / "fixed")
    assert list(repairs.done) == ["ball_1"]
    assert "its header or its voxels may be wrong" in repairs.left_out["ball_0"]
    repairs = repair(report, tmp_path / "kept", RepairOptions(same_shape="image-grid"))
    assert "takes the image's grid" in repairs.done["ball_0"][0]
    assert np.array_equal(read_scan(tmp_path / "kept" / "labels" / "ball_0.nii.gz").array[0], voxels)
    assert check_dataset(tmp_path / "kept", schema=SCHEMA).problems == []


def test_the_command(faulty, tmp_path, capsys):
    fixed = tmp_path / "fixed"
    asked = ["data", "check", str(faulty), "--labels", "ball=1,core=2", "--fix", str(fixed), "--map", "9=0"]
    asked += ["--same-shape", "resample"]
    assert run(asked) == 0  # every problem is solved in the copies
    out = capsys.readouterr().out
    assert "0 problems left" in out
    assert "left out ball_3: " in out
    assert "7 cases written, 3 left out" in out
    assert run(["data", "check", str(fixed), "--labels", "ball=1,core=2"]) == 0
    assert run(asked) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert run(["data", "check", str(faulty), "--fix", str(tmp_path / "x"), "--map", "9-0"]) == 2
    assert "expected OLD=NEW" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_not_empty_raises(faulty):
    with pytest.raises(ConfigError, match="exists and is not empty"):
        repair(check_dataset(faulty), faulty)


def test_problems_that_remain_are_reported(faulty, tmp_path, capsys):
    asked = ["data", "check", str(faulty), "--labels", "ball=1,core=2", "--fix", str(tmp_path / "fixed")]
    asked += ["--same-shape", "resample"]
    assert run(asked) == 3  # 9 is still not declared
    assert "1 problem left" in capsys.readouterr().out


def test_repaired_copies_keep_names_patients_and_annotated_labels(tmp_path):
    write_balls(tmp_path / "data", cases=2)
    rows = ["id,image,label,patient,labeled"]
    rows += [f"b{i},data/images/ball_{i}.nii.gz,data/labels/ball_{i}.nii.gz,p,{'ball' * i}" for i in (0, 1)]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    repair(check_dataset(tmp_path / "m.csv", schema=SCHEMA), tmp_path / "fixed")
    after = check_dataset(tmp_path / "fixed")
    assert [(c.id, c.patient, c.labeled) for c in after.listing.cases] == [
        ("b0", "p", None),
        ("b1", "p", ("ball",)),
    ]
    assert after.label_plan.schema.names == SCHEMA.names


@pytest.mark.data
def test_planted_faults_in_a_real_dataset(data_root, tmp_path):
    root = tmp_path / "data"
    names = sorted(p.name for p in (data_root / "hippocampus" / "images").iterdir())[:20]
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
        for name in names:
            shutil.copyfile(data_root / "hippocampus" / kind / name, root / kind / name)
    (root / "labels" / names[0]).unlink()
    gzipped = (root / "images" / names[1]).read_bytes()
    (root / "images" / names[1]).write_bytes(gzipped[: len(gzipped) * 2 // 3])
    (root / "labels" / names[2]).write_bytes(b"")
    shutil.copyfile(root / "images" / names[4], root / "images" / names[3])
    report = check_dataset(root)
    found = {(f"{f.subject}.nii.gz", f.topic) for f in report.problems}
    assert found >= {(names[0], "partner"), (names[1], "unreadable"), (names[2], "unreadable")}
    assert found <= {(n, k) for n in names[:4] for k in ("partner", "unreadable", "grid")}
    assert [f"{ids[0]}.nii.gz" for ids in report.copies] == [names[3]]
    left = repair(report, tmp_path / "fixed").left_out
    assert {f"{case}.nii.gz" for case in left} == {names[i] for i in range(4)}
    assert len(check_dataset(tmp_path / "fixed").statistics) == 16


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("9=0,5=1", "--map 5=1: no label map to be written holds 5; they hold 0, 1, 2, 9"),
        ("9=0,9=1", "--map '9=0,9=1': a value is replaced twice"),
    ],
)
def test_a_mapping_that_cannot_be_meant_writes_nothing(faulty, tmp_path, capsys, mapping, message):
    asked = ["data", "check", str(faulty), "--labels", "ball=1,core=2", "--fix", str(tmp_path / "fixed")]
    assert run([*asked, "--map", mapping]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "fixed").exists()
