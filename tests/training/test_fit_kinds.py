"""Trainings on every kind of label and image: slices of volumes, overlapping, soft and partial labels."""

import json
import shutil

import numpy as np
import pytest
from conftest import ball_settings, write_balls, write_picture, write_volume
from nibabel.affines import apply_affine

from medseg.cli.main import run as command
from medseg.config.schema import load_config
from medseg.data.io.readers import read_scan
from medseg.errors import ConfigError, DataError
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs, run_cases
from medseg.inference.model.predictor import Predictor
from medseg.training.fit import fit
from medseg.training.run_folder.log import read_log


def settings(root, *overrides, **train):
    return load_config(ball_settings(root, **train), ["model.dropout=0", *overrides])


def sliced(root, *overrides, **train):
    raw = ball_settings(root, **train)
    raw["sampling"] = {"patch_size": [16, 16]}
    return load_config(raw, ["spatial_dims=2", "model.dropout=0", *overrides])


@pytest.mark.slow
@pytest.mark.parametrize(("axis", "neighbors"), [(2, 0), (0, 2)])
def test_a_flat_network_on_slices_writes_a_volume_on_its_grid(tmp_path, axis, neighbors):
    root = tmp_path / "data"
    oblique = np.array([[0, 0, 2.0, 5], [-1, 0, 0, 6], [0, 1.5, 0, 7], [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    for i in range(4):
        label = np.zeros((18, 20, 9), np.uint8)
        label[4:14, 5:15, 2:7] = 1
        label[7:10, 8:11, 3:6] = 2
        write_volume(
            root / "images" / f"c{i}.nii.gz",
            (100 * label + rng.normal(0, 5, label.shape)).astype("f4"),
            oblique,
        )
        write_volume(root / "labels" / f"c{i}.nii.gz", label, oblique)
    slices = f"preprocess.slices={{axis: {axis}, neighbors: {neighbors}}}"
    config = sliced(
        root,
        slices,
        "train.optimizer.lr=0.01",
        "augment=none",
        epochs=1,
        iterations=80 * (neighbors + 1),
        batch_size=8,
    )
    result = fit(config, tmp_path / "run")
    assert result.best > 0.6
    predictor = Predictor(result.model)
    image = root / "images" / "c0.nii.gz"
    prediction = predictor.predict(image, probabilities=True)
    truth = read_scan(root / "labels" / "c0.nii.gz").array[0]
    assert prediction.label_map.shape == truth.shape
    assert (prediction.label_map == truth).mean() > 0.95
    assert prediction.probabilities.shape == (3, *truth.shape)
    infer_cases(predictor, find_inputs([image]), tmp_path / "out")
    written = read_scan(tmp_path / "out" / "c0.nii.gz")
    corners = np.array([[0, 0, 0], [17, 19, 8]])
    np.testing.assert_allclose(
        apply_affine(written.grid.affine, corners), apply_affine(oblique, corners), atol=1e-4
    )


def test_volumes_need_slices_for_a_flat_network_and_pictures_none(balls, squares, tmp_path):
    with pytest.raises(ConfigError, match=r"Set preprocess\.slices\.axis"):
        fit(sliced(balls), tmp_path / "a")
    raw = {"data": {"path": str(squares), "labels": {"instances": "foreground"}}, "spatial_dims": 2}
    with pytest.raises(ConfigError, match=r"contains pictures\. Remove preprocess\.slices"):
        fit(load_config(raw, ["preprocess.slices.axis=2"]), tmp_path / "b")
    with pytest.raises(ConfigError, match="set spatial_dims=2"):
        settings(balls, "preprocess.slices.axis=2")


def masks_of_balls(root, *, skip=()):
    """Balls whose labels are a file each, the core inside the ball: they overlap."""
    write_balls(root, cases=5)
    for i in range(5):
        path = root / "labels" / f"ball_{i}.nii.gz"
        label = read_scan(path).array[0]
        path.unlink()
        for name, mask in (("ball", label > 0), ("core", label == 2)):
            if (i, name) not in skip:
                write_volume(root / "labels" / f"ball_{i}" / f"{name}.nii.gz", mask.astype(np.uint8))
    return root


@pytest.mark.slow
def test_overlapping_masks_are_trained_with_a_sigmoid(tmp_path):
    root = masks_of_balls(tmp_path / "data")
    config = settings(
        root, "data.labels=null", "train.optimizer.lr=0.01", epochs=1, iterations=60, batch_size=4
    )
    with pytest.raises(DataError, match=r"Set data.labels.overlapping=true"):
        fit(config, tmp_path / "refused")
    config = settings(
        root, "data.labels=null", "data.labels.overlapping=true", "train.optimizer.lr=0.01",
        epochs=1, iterations=60,
        batch_size=4,
    )  # fmt: skip
    result = fit(config, tmp_path / "run")
    assert result.best > 0.6
    scores = read_log(result.run / "log.jsonl")[-1]
    assert {"val_dice:ball", "val_dice:core"} <= set(scores)
    cases = run_cases(result.run, "test")
    from medseg.inference.batch.options import BatchOptions

    outcomes = infer_cases(Predictor(result.model), cases, tmp_path / "out", BatchOptions(overlays=True))
    assert [o.status for o in outcomes] == ["done"]
    values = read_scan(tmp_path / "out" / f"{cases[0].id}.nii.gz").array
    assert set(np.unique(values)) <= {0, 1, 2, 3}
    assert 3 in values  # ball and core at once


@pytest.mark.slow
def test_partly_annotated_cases_train_and_score_their_annotated_labels(tmp_path):
    root = masks_of_balls(tmp_path / "data", skip={(0, "core"), (1, "core")})
    common = ["data.labels=null", "data.labels.overlapping=true", "train.optimizer.lr=0.01"]
    with pytest.raises(DataError, match="case ball_0: no file of core"):
        fit(settings(root, *common), tmp_path / "refused")
    split = tmp_path / "split.json"
    split.write_text(
        json.dumps({"train": ["ball_1", "ball_2", "ball_3"], "val": ["ball_0"], "test": ["ball_4"]})
    )
    config = settings(
        root, *common, "data.labels.missing=unknown", f"data.split={{name: file, file: {split}}}",
        epochs=1, iterations=60, batch_size=4,
    )  # fmt: skip
    result = fit(config, tmp_path / "run")
    entry = read_log(result.run / "log.jsonl")[-1]
    assert entry["val_dice:core"] is None  # not annotated there
    assert entry["val_dice:ball"] > 0.7


@pytest.mark.slow
def test_partial_labels_of_a_softmax(tmp_path):
    """Half of the cases know only the ball, half only the core's absence is drawn: both classes are learnt."""
    root = write_balls(tmp_path / "data", cases=5)
    rows = ["image,label,labeled,split"]
    for i in range(5):
        part = "val" if i == 4 else "train"
        known = "" if i >= 2 else "core"
        if i < 2:  # the ball was never drawn: its voxels are background
            path = root / "labels" / f"ball_{i}.nii.gz"
            label = read_scan(path).array[0]
            write_volume(path, np.where(label == 2, 2, 0).astype(np.uint8))
        rows.append(f"images/ball_{i}.nii.gz,labels/ball_{i}.nii.gz,{known},{part}")
    (root / "manifest.csv").write_text("\n".join(rows))
    config = settings(
        root, "train.optimizer.lr=0.01", "data.split.name=auto", epochs=1, iterations=80, batch_size=4
    )
    result = fit(config, tmp_path / "run")
    entry = read_log(result.run / "log.jsonl")[-1]
    assert entry["val_dice:ball"] > 0.7
    assert entry["val_dice:core"] > 0.5


@pytest.mark.slow
def test_soft_labels_teach_probabilities(tmp_path):
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    rows = ["image,label:organ,split"]
    for i in range(4):
        bright = np.zeros((20, 20, 20), np.float32)
        bright[5:15, 5:15, 5:15] = 1
        write_volume(root / f"i{i}.nii.gz", (100 * bright + rng.normal(0, 2, bright.shape)).astype(np.float32))
        write_volume(root / f"p{i}.nii.gz", 0.7 * bright)
        rows.append(f"i{i}.nii.gz,p{i}.nii.gz,{'val' if i == 3 else 'train'}")
    (root / "manifest.csv").write_text("\n".join(rows))
    config = settings(
        root, "data.labels=null", "data.labels.soft=true", "data.split.name=auto", "loss={name: ce}",
        "train.optimizer.lr=0.02", epochs=1, iterations=80, batch_size=4,
    )  # fmt: skip
    result = fit(config, tmp_path / "run")
    organ = Predictor(result.model).predict(root / "i3.nii.gz", probabilities=True).probabilities[1]
    assert organ[8:12, 8:12, 8:12].mean() == pytest.approx(0.7, abs=0.08)
    assert organ[:3].mean() < 0.1


@pytest.mark.slow
def test_several_files_of_channels(tmp_path):
    source = write_balls(tmp_path / "balls", cases=5)
    root = tmp_path / "data"
    for i in range(5):
        for channel in range(2):
            target = root / "images" / f"ball_{i}_{channel:04d}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / "images" / f"ball_{i}.nii.gz", target)
    shutil.copytree(source / "labels", root / "labels")
    result = fit(settings(root), tmp_path / "run")
    record = json.loads((result.run / "cases.json").read_text())
    assert [len(e["other_channels"]) for e in record] == [1] * 5
    out = tmp_path / "out"
    assert command(["infer", str(root / "images"), "--model", str(result.run), "--output", str(out)]) == 0
    assert sorted(p.name for p in out.glob("*.nii.gz")) == [f"ball_{i}.nii.gz" for i in range(5)]
    assert command(["infer", "--cases", "test", "--model", str(result.run), "--output", str(out)]) == 0


def test_patients_are_never_in_two_parts(balls, tmp_path):
    config = settings(balls, "data.patient=ball_([0-9])")
    fit(config, tmp_path / "run")
    split = {"train": [f"ball_{i}" for i in range(4)], "val": ["ball_4"], "test": ["ball_5"]}
    (tmp_path / "s.json").write_text(json.dumps(split))
    config = settings(balls, "data.patient=(ball)", f"data.split={{name: file, file: {tmp_path / 's.json'}}}")
    with pytest.raises(DataError, match=r"patients in more than one part of the split .*\(1\):\s+patient ball"):
        fit(config, tmp_path / "leak")
    with pytest.raises(ConfigError, match="matches no patient in the case id"):
        fit(settings(balls, "data.patient=x(y)"), tmp_path / "none")
    with pytest.raises(ConfigError, match="has no group in parentheses"):
        settings(balls, "data.patient=ball")


def test_color_coded_scenes_without_background(tmp_path):
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for i in range(5):
        left = np.arange(32)[None] < 10 + 2 * i
        colors = np.where(left[..., None], (10, 20, 30), (200, 0, 0)).repeat(32, axis=0).astype(np.uint8)
        image = (colors + rng.integers(0, 20, colors.shape)).astype(np.uint8)
        write_picture(root / "images" / f"s{i}.png", image)
        write_picture(root / "labels" / f"s{i}.png", colors)
    config = load_config(
        {
            "spatial_dims": 2,
            "data": {
                "path": str(root),
                "workers": 0,
                "labels": {"background": False, "colors": {"left": [10, 20, 30], "right": [200, 0, 0]}},
            },
            "sampling": {"patch_size": [32, 32]},
            "model": {"channels": [4, 8]},
            "train": {"epochs": 1, "iterations": 30, "amp": "off", "optimizer": {"lr": 0.01}},
        }
    )  # fmt: skip
    result = fit(config, tmp_path / "run")
    entry = read_log(result.run / "log.jsonl")[-1]
    assert entry["val_dice:left"] > 0.9
    assert entry["val_dice:right"] > 0.9
