import csv
import json

import numpy as np
import pytest
from conftest import write_picture, write_squares, write_volume

from medseg.cli.main import run as main_run
from medseg.config.schema import load_config
from medseg.errors import DataError
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.batch.options import BatchOptions
from medseg.inference.model.model_file import load_model, save_model
from medseg.inference.model.predictor import Predictor
from medseg.training.fit import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training on squares of 12 x 12 pixels."""
    folder = tmp_path_factory.mktemp("shift")
    settings = {
        "spatial_dims": 2,
        "data": {"path": str(write_squares(folder / "data")), "workers": 0, "split": {"name": "fraction"}},
        "sampling": {"patch_size": [32, 32]},
        "model": {"channels": [4, 8]},
        "train": {"epochs": 1, "iterations": 30, "batch_size": 4, "amp": "off", "optimizer": {"lr": 0.01}},
    }
    fit(load_config(settings), folder / "run")
    return folder / "run"


def table(out):
    with (out / "warnings.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_model_file_describes_the_training_cases(run):
    header = load_model(run / "model.safetensors")[0]
    fingerprint = header.fingerprint
    assert fingerprint.kind == "picture"
    assert fingerprint.cases == header.training["cases"]["train"]
    sizes = fingerprint.distribution("object_size:foreground")
    assert sizes.median == pytest.approx(2 * np.sqrt(144 / np.pi), rel=1e-3)  # 12 x 12 pixels
    assert fingerprint.distribution("share:foreground").median == pytest.approx(144 / (32 * 36), rel=1e-3)
    assert fingerprint.objects["foreground"][1] == pytest.approx(sizes.median, rel=1e-3)
    assert fingerprint.distribution("red_green").median > 0
    text = fingerprint.model_dump_json()
    assert "square" not in text
    assert str(run.parent) not in text


def test_training_cases_have_no_warnings(run, tmp_path):
    data = run.parent / "data" / "images"
    outcomes = infer_cases(Predictor(run), find_inputs([data]), tmp_path)
    before = [w for outcome in outcomes for w in outcome.warnings if "object" not in w and "share" not in w]
    assert [w for w in before if "foreground" not in w] == []


def test_scans_that_differ_are_listed_with_advice(run, tmp_path):
    pixels = np.random.default_rng(0).integers(150, 255, (40, 40, 3)).astype(np.uint8)
    pixels[..., 0] = 0  # no red, and far brighter than the training
    write_picture(tmp_path / "in" / "other.png", pixels)
    out = tmp_path / "out"
    (outcome,) = infer_cases(Predictor(run), find_inputs([tmp_path / "in"]), out)
    assert "differs from the training" in outcome.describe()
    rows = table(out)
    assert {row["case"] for row in rows} == {"other"}
    assert list(rows[0]) == ["case", "finding", "value", "training", "advice"]
    findings = {row["finding"]: row for row in rows}
    assert "excess of red over green below the training's" in findings
    record = json.loads((out / "provenance" / "other.json").read_text())
    assert record["shift"]["score"] > 1
    assert [w["finding"] for w in record["shift"]["warnings"]] == list(findings)
    (again,) = infer_cases(Predictor(run), find_inputs([tmp_path / "in"]), out)
    assert again.status == "skipped"
    assert table(out) == rows  # the result exists, and so do its warnings


def test_without_warnings_there_is_no_table(run, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(150, 255, (40, 40, 3)).astype(np.uint8)
    write_picture(tmp_path / "in" / "other.png", pixels)
    infer_cases(Predictor(run), find_inputs([tmp_path / "in"]), tmp_path / "out")
    assert (tmp_path / "out" / "warnings.csv").is_file()
    monkeypatch.setattr("medseg.inference.shift.comparison._TOLERANCE", 1e9)
    options = BatchOptions(overwrite=True)
    infer_cases(Predictor(run), find_inputs([tmp_path / "in"]), tmp_path / "out", options)
    assert not (tmp_path / "out" / "warnings.csv").exists()


def test_a_foreign_table_is_not_replaced(run, tmp_path):
    source = run.parent / "data" / "images" / "square_0.png"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "warnings.csv").write_text("mine\n")
    command = ["infer", str(source), "--model", str(run), "--output", str(tmp_path / "out")]
    assert main_run(command) == 2
    assert (tmp_path / "out" / "warnings.csv").read_text() == "mine\n"


def test_models_of_earlier_versions_have_no_warnings(run, tmp_path):
    header, tensors, _ = load_model(run / "model.safetensors")
    path = tmp_path / "model.safetensors"
    save_model(path, header.model_copy(update={"fingerprint": None}), tensors)
    pixels = np.full((40, 40, 3), 255, np.uint8)
    prediction = Predictor(path).predict(write_picture(tmp_path / "white.png", pixels))
    assert prediction.shift is None


def test_scans_of_another_modality_fail_unless_forced(balls, tmp_path):
    from conftest import ball_settings

    fit(load_config(ball_settings(balls, epochs=1, iterations=2)), tmp_path / "run")
    voxels = np.full((20, 20, 20), -1000, np.int16)
    voxels[5:15, 5:15, 5:15] = 40
    scan = write_volume(tmp_path / "ct.nii.gz", voxels)
    with pytest.raises(DataError, match="Hounsfield units"):
        Predictor(tmp_path / "run").predict(scan)
    command = ["infer", str(scan), "--model", str(tmp_path / "run"), "--output", str(tmp_path / "out")]
    assert main_run(command) == 4
    assert main_run([*command, "--force"]) == 0


def test_the_command_prints_how_many_cases_differ(run, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(150, 255, (40, 40, 3)).astype(np.uint8)
    write_picture(tmp_path / "other.png", pixels)
    command = ["infer", str(tmp_path / "other.png"), "--model", str(run), "--output", str(tmp_path / "out")]
    assert main_run([*command, "--rescale", "0.5"]) == 0
    assert f"1 of 1 cases differ from the training: {tmp_path / 'out' / 'warnings.csv'}" in (
        capsys.readouterr().err
    )
    assert main_run([*command, "--rescale", "big"]) == 2
