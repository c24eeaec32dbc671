import json
import shutil

import numpy as np
import pytest
from conftest import write_balls, write_picture, write_squares, write_volume

from medseg.cli.main import run
from medseg.data.curation import summary as summary_module
from medseg.data.curation.check import check_dataset
from medseg.data.curation.convert import convert_dataset
from medseg.data.curation.repair import repair
from medseg.data.curation.summary import summarize_dataset
from medseg.data.io.multichannel import read_image
from medseg.data.io.readers import read_scan
from medseg.data.labels.config import LabelConfig
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts import find_dataset
from medseg.data.options import DataConfig
from medseg.errors import ConfigError, DataError

SCHEMA = LabelSchema(names={"background": (0,), "ball": (10,), "core": (20,)})


def blocks(root):
    """Two volumes: two balls of 8 and 1 voxels (10), a core of 4 (20) in the first only."""
    for i in range(2):
        label = np.zeros((5, 6, 7), np.uint8)
        label[0:2, 0:2, 0:2] = 10
        label[4, 5, 6] = 10
        if i == 0:
            label[3, 0:2, 3:5] = 20
        image = np.where(label == 10, 100, 0).astype(np.int16) + 7
        image[2, 2, 2] = i  # not the same file twice
        write_volume(root / "images" / f"c{i}.nii.gz", image, np.diag([1, 2, 3, 1.0]))
        write_volume(root / "labels" / f"c{i}.nii.gz", label, np.diag([1, 2, 3, 1.0]))
    return root


def test_the_numbers_by_hand(tmp_path):
    summary = summarize_dataset(check_dataset(blocks(tmp_path), schema=SCHEMA))
    assert summary["cases"] == 2
    assert [a["median"] for a in summary["size"]] == [5, 6, 7]
    assert [a["median"] for a in summary["spacing"]] == [1, 2, 3]
    background, ball, core = summary["labels"]
    assert (background["label"], background["voxels"]) == ("background", 2 * 210 - 22)
    assert (ball["cases"], ball["voxels"], ball["components"]) == (2, 18, 2)
    assert ball["share"] == pytest.approx(18 / 420)
    assert ball["imbalance"] == pytest.approx(398 / 18)
    assert ball["component_size"] == {"min": 6, "median": 27, "max": 48}  # voxels of 6 mm³
    assert (core["cases"], core["components"]) == (1, 1)
    # labeled voxels: 18 of 107, 4 of 7
    assert summary["intensities"][0]["mean"] == pytest.approx((18 * 107 + 4 * 7) / 22)


def test_instances_are_components(tmp_path, capsys):
    label = np.zeros((8, 9), np.uint16)
    label[0:2, 0:2] = 5
    label[2:4, 0:2] = 6  # touches the other: one component, two instances
    write_picture(tmp_path / "images" / "a.png", np.zeros((8, 9), np.uint8))
    write_picture(tmp_path / "labels" / "a.png", label)
    assert run(["data", "summary", str(tmp_path), "data.labels.instances=foreground", "--json"]) == 0
    schema = LabelSchema(names={"background": (0,), "cell": (1,)}, collapse_instances=True)
    row = summarize_dataset(check_dataset(tmp_path, schema=schema))["labels"][1]
    assert (row["voxels"], row["components"], row["component_size"]["max"]) == (8, 2, 4)
    capsys.readouterr()
    assert run(["data", "summary", str(tmp_path), "data.labels.instances=foreground"]) == 0
    assert "size (pixels) min" in capsys.readouterr().out


def test_the_page_needs_no_other_file(tmp_path, capsys):
    root = blocks(tmp_path / "data")
    out = tmp_path / "out"
    assert run(["data", "summary", str(root), "--labels", "ball=10,core=20", "--output", str(out)]) == 0
    assert "core" in capsys.readouterr().out
    page = (out / "summary.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "http:" not in page
    assert "https:" not in page
    assert json.loads((out / "summary.json").read_text())["labels"][2]["label"] == "core"


def test_a_summary_does_not_replace_that_of_an_evaluation(tmp_path, capsys):
    root, out = blocks(tmp_path / "data"), tmp_path / "metrics"
    out.mkdir()
    (out / "summary.json").write_text('{"cases": 9, "definitions": {}}')
    assert run(["data", "summary", str(root), "--output", str(out)]) == 2
    assert "was not written by medseg data summary" in capsys.readouterr().err
    assert [path.read_text() for path in out.iterdir()] == ['{"cases": 9, "definitions": {}}']


def test_a_summary_of_nothing(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    write_volume(tmp_path / "images" / "a.nii.gz", np.full((2, 2, 2), np.nan, np.float32))
    write_volume(tmp_path / "labels" / "a.nii.gz", np.zeros((2, 2, 2), np.uint8))
    assert run(["data", "summary", str(tmp_path)]) == 3


@pytest.mark.parametrize("to", ["folders", "nnunet", "msd", "bids", "manifest"])
def test_layouts_hold_the_same_voxels_on_the_same_grids(tmp_path, to):
    root = blocks(tmp_path / "data")
    ids = convert_dataset(root, tmp_path / "out", to, schema=SCHEMA)
    assert ids == ["c0", "c1"]
    found = find_dataset(tmp_path / "out").checked()
    assert len(found.cases) == 2
    for case, name in zip(found.cases, ids, strict=True):
        for file, kind in ((case.image, "images"), (case.label, "labels")):
            new, old = read_scan(file), read_scan(root / kind / f"{name}.nii.gz")
            np.testing.assert_allclose(new.grid.affine, old.grid.affine)
            wanted = old.array
            if to == "nnunet" and kind == "labels":
                wanted = np.searchsorted([0, 10, 20], wanted)  # consecutive
            assert np.array_equal(new.array, wanted)
    if to in ("nnunet", "msd", "bids"):
        assert list(found.labels.names) == ["background", "ball", "core"]


def test_channels_become_files_and_axes(tmp_path):
    for i in range(2):
        for channel in (0, 1):
            write_volume(
                tmp_path / "d" / "images" / f"c{i}_000{channel}.nii.gz", np.full((3, 4, 5), channel + i, "i2")
            )
        write_volume(
            tmp_path / "d" / "labels" / f"c{i}.nii.gz", np.eye(5, dtype="u1")[None, 1:].repeat(3, axis=0)
        )
    convert_dataset(tmp_path / "d", tmp_path / "msd", "msd")
    assert read_scan(tmp_path / "msd" / "imagesTr" / "c1.nii.gz").array.shape == (2, 3, 4, 5)
    convert_dataset(tmp_path / "msd", tmp_path / "nnunet", "nnunet")
    assert [len(c.images) for c in find_dataset(tmp_path / "nnunet").checked().cases] == [2, 2]


def test_pictures_and_invalid_arguments(tmp_path):
    root = write_squares(tmp_path / "data", cases=3)
    convert_dataset(root, tmp_path / "n", "nnunet")
    found = find_dataset(tmp_path / "n").checked()
    assert np.unique(read_scan(found.cases[0].label).array).tolist() == [0, 1]
    with pytest.raises(ConfigError, match="is a layout for volumes"):
        convert_dataset(root, tmp_path / "m", "msd")
    with pytest.raises(ConfigError, match="already exists"):
        convert_dataset(root, tmp_path / "n", "nnunet")
    (root / "labels" / "square_0_mask.png").unlink()
    with pytest.raises(DataError, match="has 1 problems, the first: square_0"):
        convert_dataset(root, tmp_path / "x", "folders")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("write", ["folders", "nnunet", "manifest", "repair"])
def test_pictures_in_archives(tmp_path, write):
    """Arrays (H, W), selected by a table as FILE.npz#NAME."""
    for i in range(2):
        image, label = np.full((9, 8), i + 0.5, np.float32), np.zeros((9, 8), np.uint8)
        image[0, :4], label[:3, :3] = 7, 1
        np.savez(tmp_path / f"c{i}.npz", image=image, label=label)
    table = manifest_of(tmp_path, [f"c{i}.npz#image,c{i}.npz#label" for i in range(2)], "image,label")
    if write == "repair":
        repair(check_dataset(table), tmp_path / "out")
    else:
        convert_dataset(table, tmp_path / "out", write)
    for number, case in enumerate(find_dataset(tmp_path / "out").checked().cases):
        scan = read_scan(case.image)
        assert scan.kind == "picture"
        assert (scan.array[0, 0, :4] == 7).all()
        assert (scan.array[0, 1:] == number + 0.5).all()
        assert np.count_nonzero(read_scan(case.label).array) == 9
    assert len(find_dataset(tmp_path / "out").cases) == 2


def manifest_of(root, rows, columns="id,image,label,patient,labeled,center"):
    path = root / "mine.csv"
    path.write_text("\n".join([columns, *rows]))
    return path


def test_a_manifest_keeps_all_properties_of_the_dataset(tmp_path):
    blocks(tmp_path / "data")
    rows = [
        f"k{i},data/images/c{i}.nii.gz,data/labels/c{i}.nii.gz,p{i},{n},Oslo"
        for i, n in enumerate(["ball", ""])
    ]
    source = manifest_of(tmp_path, rows)
    convert_dataset(source, tmp_path / "sub" / "out", "manifest", schema=SCHEMA)
    shutil.move(
        tmp_path, tmp_path.parent / f"{tmp_path.name}_moved"
    )  # folders that are moved together stay together
    moved = tmp_path.parent / f"{tmp_path.name}_moved"
    one, two = find_dataset(moved / "sub" / "out").checked().cases
    assert (one.id, one.patient, one.labeled, one.metadata) == ("k0", "p0", ("ball",), {"center": "Oslo"})
    assert (two.labeled, two.label.resolve()) == (None, (moved / "data" / "labels" / "c1.nii.gz").resolve())


def test_datasets_that_a_layout_cannot_represent_raise(tmp_path):
    root = blocks(tmp_path / "data")
    partial = manifest_of(tmp_path, ["k,data/images/c0.nii.gz,data/labels/c0.nii.gz,p,ball,x"])
    for to in ("folders", "nnunet", "msd", "bids"):
        with pytest.raises(DataError, match="partly annotated"):
            convert_dataset(partial, tmp_path / "out", to, schema=SCHEMA)
    with pytest.raises(ConfigError, match="is inside the dataset"):
        convert_dataset(root, root / "out", "folders", schema=SCHEMA)
    twins = [
        f"{name},data/images/c{i}.nii.gz,data/labels/c{i}.nii.gz,,," for i, name in enumerate(("a-1", "a_1"))
    ]
    with pytest.raises(DataError, match="these cases share a name: a-1 and a_1"):
        convert_dataset(manifest_of(tmp_path, twins), tmp_path / "out", "bids", schema=SCHEMA)
    assert not (tmp_path / "out").exists()


def test_without_a_background_nnunet_values_start_at_one(tmp_path):
    labels = LabelSchema(names={"ball": (10,), "core": (20,)}, background=False, ignore_value=0)
    convert_dataset(blocks(tmp_path / "data"), tmp_path / "n", "nnunet", schema=labels)
    table = json.loads((tmp_path / "n" / "dataset.json").read_text())["labels"]
    assert table == {"background": 0, "ball": 1, "core": 2, "ignore": 3}
    values = read_scan(tmp_path / "n" / "labelsTr" / "c0.nii.gz").array
    assert np.bincount(values.ravel().astype(int)).tolist() == [0, 9, 4, 210 - 13]


def test_settings_go_after_both_folders(tmp_path):
    root = blocks(tmp_path / "data")
    command = ["data", "convert", str(root), str(tmp_path / "out"), "--to", "nnunet"]
    labels = ["data.labels={ball: 0, core: 20}", "data.labels.others=background"]
    assert run([*command, *labels]) == 0
    assert np.unique(read_scan(tmp_path / "out" / "labelsTr" / "c0.nii.gz").array).tolist() == [0, 1]


def test_the_command_converts(tmp_path, capsys):
    root = write_balls(tmp_path / "data", cases=3)
    assert (
        run(
            ["data", "convert", str(root), str(tmp_path / "out"), "--to", "nnunet", "--labels", "ball=1,core=2"]
        )
        == 0
    )
    assert "3 cases" in capsys.readouterr().out


SETTINGS = {
    "merged": ["data.labels={background: 0, ball: [10, 20]}"],
    "others ignored": ["data.labels={background: 0, ball: 10}", "data.labels.others=ignore"],
    "others ignored by value": [
        "data.labels={background: 0, ball: 10}",
        "data.labels.others=ignore",
        "data.labels.ignore_value=255",
    ],
    "others are background": ["data.labels={background: 0, ball: 10}", "data.labels.others=background"],
    "instances": ["data.labels.instances=foreground"],
    "ignore value": ["data.labels={background: 0, core: 20}", "data.labels.ignore_value=10"],
    "named": ["data.labels={background: 0, ball: 10, core: 20}"],
}


def named_classes(root, settings=()):
    """For each case the name of every voxel's class, "" where it is ignored, as a training reads it."""
    from medseg.cli.commands.data import _dataset

    report = _dataset(root, tuple(settings), None, None).check()
    assert not report.problems
    values = {value for fact in report.statistics for value in fact.label_counts}
    labels = report.label_plan.resolve(values).schema
    names = np.array(["", *labels.names])
    maps = []
    for case in report.label_plan.cases:
        target = report.label_plan.reader.read(case, read_image(case))
        maps.append(names[labels.encode(target.values, case.id)])
    return maps


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("to", ["folders", "nnunet", "msd", "bids", "manifest"])
def test_a_converted_dataset_has_the_classes_that_the_settings_give(tmp_path, to, settings, capsys):
    root, out = blocks(tmp_path / "data"), tmp_path / "out"
    code = run(["data", "convert", str(root), str(out), "--to", to, *settings])
    if to == "bids" and any("ignore" in s for s in settings):
        assert code != 0
        assert "--to bids cannot represent ignored voxels" in capsys.readouterr().err
        assert not out.exists()
        return
    assert code == 0
    for converted, source in zip(named_classes(out), named_classes(root, settings), strict=True):
        assert np.array_equal(converted, source)


def test_without_settings_a_manifest_and_folders_keep_every_value(tmp_path):
    root = blocks(tmp_path / "data")
    for to in ("folders", "manifest"):
        convert_dataset(root, tmp_path / to, to)
        assert not (tmp_path / to / "labels.json").exists()
    assert not (tmp_path / "manifest" / "labels").exists()
    values = read_scan(tmp_path / "folders" / "labels" / "c0.nii.gz").array
    assert np.array_equal(values, read_scan(root / "labels" / "c0.nii.gz").array)


def test_intensities_are_those_of_declared_labels(tmp_path):
    # liver (1) is 60, an undeclared region (7) is 1000 and an ignored one (9) is -500
    for i in range(2):
        label = np.zeros((6, 6, 6), np.uint8)
        label[0], label[1], label[2] = 1, 7, 9
        image = np.select([label == 1, label == 7, label == 9], [60, 1000, -500], 0).astype(np.int16)
        write_volume(tmp_path / "images" / f"c{i}.nii.gz", image + np.int16(0) * i)
        write_volume(tmp_path / "labels" / f"c{i}.nii.gz", label)
    labels = LabelConfig(names={"air": (0,), "liver": (1,)}, ignore_value=9, others="background")
    summary = summarize_dataset(check_dataset(tmp_path, DataConfig(labels=labels)))
    assert summary["intensities"][0]["mean"] == 60
    assert summary["intensities"][0]["sd"] == 0


def test_components_are_measured_within_the_memory_budget(tmp_path, monkeypatch):
    measured = []

    def run_within_budget(function, jobs):
        measured.extend(job.memory for job in jobs)
        return [function(job.item) for job in jobs]

    monkeypatch.setattr(summary_module, "run_jobs", run_within_budget)
    report = check_dataset(blocks(tmp_path), schema=SCHEMA)
    assert summarize_dataset(report)["labels"][1]["components"] is not None
    assert len(measured) == len(report.statistics)
    assert min(measured) > 0
