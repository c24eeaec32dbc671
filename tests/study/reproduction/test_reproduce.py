"""Trainings of a few updates, reproduced."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from conftest import ball_settings, write_balls

from medseg.cli.main import run as command
from medseg.config.schema import load_config
from medseg.errors import ChangedDataError, ConfigError
from medseg.progress import QuietProgress
from medseg.study.reproduction import CaseChange, reproduce_run
from medseg.training.fit import fit
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.run_folder.checkpoint import load_checkpoint
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import read_log

pytestmark = pytest.mark.slow


class Machine(QuietProgress):
    """A clock that moves with the updates, which become slower and faster again."""

    def __init__(self):
        self.now, self.updates, self.stages = 0.0, 0, []

    def start(self, total, description, *, unit="cases", completed=0):
        self.stages.append(description)

    def advance(self, detail=""):
        if self.stages[-1] == "training":
            self.updates += 1
            self.now += 0.5 if self.updates < 14 else 3.0 if self.updates < 18 else 0.7
        elif self.stages[-1] == "validating":
            self.now += 0.4

    def finish(self):
        self.stages.pop()


def retrain(run, output, **options):
    return reproduce_run(run, output, progress=QuietProgress(), **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dataset and a finished run on it."""
    root = tmp_path_factory.mktemp("reproduced")
    write_balls(root / "data")
    settings = ball_settings(root / "data", epochs=1, iterations=2, ema=0.5)
    fit(load_config(settings), root / "run", progress=QuietProgress())
    return root


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of dataset and run, which the test may change."""
    shutil.copytree(trained, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    return tmp_path / "copy"


def test_the_same_data_give_the_same_weights(trained, tmp_path, capsys):
    assert command(["reproduce", str(trained / "run"), "--output", str(tmp_path / "again")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["data      equal", "code      equal", "versions  equal", "hardware  equal"]
    assert lines[4].startswith("weights   equal, bit by bit")
    saved = json.loads((tmp_path / "again" / "reproduction.json").read_text(encoding="utf-8"))
    assert saved["equal"]
    assert saved["weights"]["score"] == saved["weights"]["reproduced_score"]


def test_a_changed_label_is_named_and_added_cases_take_no_part(copied, tmp_path, capsys):
    parts = {one["id"]: one["part"] for one in json.loads((copied / "run" / "cases.json").read_text())}
    case = next(name for name, part in parts.items() if part == "train")
    for folder in ("images", "labels"):
        shutil.copy(copied / "data" / folder / "ball_0.nii.gz", copied / "data" / folder / "new.nii.gz")
    moved = ["--data", str(copied / "data"), "--output", str(tmp_path / "again")]
    image = copied / "data" / "images" / "new.nii.gz"
    scan = nib.load(image)
    nib.save(nib.Nifti1Image(np.asarray(scan.dataobj) + 3, scan.affine), image)  # not a copy
    assert command(["reproduce", str(copied / "run"), *moved]) == 0
    out = capsys.readouterr().out
    assert "case new: added" in out
    assert "weights   equal" in out

    label = copied / "data" / "labels" / f"{case}.nii.gz"
    scan = nib.load(label)
    values = np.asarray(scan.dataobj).copy()
    values[8:14, 8:14, 8:14] = 1
    nib.save(nib.Nifti1Image(values, scan.affine), label)
    assert command(["reproduce", str(copied / "run"), *moved[:2], "--output", str(tmp_path / "changed")]) == 4
    out = capsys.readouterr().out
    assert f"case {case}: label changed" in out
    assert "weights   differ in" in out
    assert "score     " in out


def test_without_training_only_differences_are_found(copied):
    (copied / "data" / "images" / "ball_2.nii.gz").unlink()
    (copied / "data" / "labels" / "ball_2.nii.gz").unlink()
    result = retrain(copied / "run", copied / "none", data=copied / "data", train=False)
    assert result.cases == [CaseChange("ball_2", "missing")]
    assert result.weights is None
    assert not (copied / "none").exists()


def test_a_dry_run_says_by_its_exit_code_whether_the_record_still_holds(copied, monkeypatch, capsys):
    data = copied / "data"
    dry = ["reproduce", str(copied / "run"), "--data", str(data), "--dry-run"]
    assert command(dry) == 0
    for folder in ("images", "labels"):
        shutil.copy(data / folder / "ball_0.nii.gz", data / folder / "new.nii.gz")
    assert command(dry) == 0  # it takes no part
    assert "case new: added" in capsys.readouterr().out
    (data / "labels" / "ball_2.nii.gz").unlink()
    (data / "images" / "ball_2.nii.gz").unlink()
    assert command([*dry, "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert (told["unchanged"], told["equal"]) == (False, None)  # nothing was compared
    for folder in ("images", "labels"):
        shutil.copy(data / folder / "new.nii.gz", data / folder / "ball_2.nii.gz")
    assert command(dry) == 4  # other contents under the old name


def test_a_dry_run_on_other_versions_says_so_by_its_exit_code(copied, capsys):
    environment = copied / "run" / "environment.json"
    content = json.loads(environment.read_text())
    environment.write_text(json.dumps(content | {"python": "2.7"}))
    assert command(["reproduce", str(copied / "run"), "--data", str(copied / "data"), "--dry-run"]) == 4
    assert "python: 2.7 →" in capsys.readouterr().out


def test_cases_that_moved_are_asked_for(copied, capsys):
    config = copied / "run" / "config.yaml"
    config.write_text(config.read_text().replace("/data\n", "/gone\n"))
    assert command(["reproduce", str(copied / "run"), "--dry-run"]) == 3
    error = capsys.readouterr().err
    assert "gone: does not exist; " in error
    assert "--data FOLDER" in error


def test_a_reproduction_goes_on_beside_added_cases_and_not_with_changed_ones(copied, tmp_path):
    write_balls(tmp_path / "more", cases=7)
    for folder in ("images", "labels"):
        shutil.copy(tmp_path / "more" / folder / "ball_6.nii.gz", copied / "data" / folder)
    options = {"data": copied / "data"}
    assert retrain(copied / "run", tmp_path / "again", **options).equal
    assert retrain(copied / "run", tmp_path / "again", **options).equal
    labels = copied / "data" / "labels"
    shutil.copy(labels / "ball_1.nii.gz", labels / "ball_0.nii.gz")
    with pytest.raises(ChangedDataError, match="case ball_0: label map changed") as caught:
        retrain(copied / "run", tmp_path / "again", **options)
    assert "choose another --output" in caught.value.hint
    assert "accept" not in caught.value.hint


def test_a_time_budget_is_replayed(balls, tmp_path):
    config = load_config(ball_settings(balls, iterations=5, validate_share=0.5))
    machine = Machine()
    budget = TimeBudget(30.0, clock=lambda: machine.now)
    fit(config, tmp_path / "run", progress=machine, budget=budget)
    first = RunFolder(tmp_path / "run")
    assert any(one["planned_stop"] for one in load_checkpoint(first.last)["pace"]["segments"])

    result = retrain(tmp_path / "run", tmp_path / "again")
    assert result.equal
    logs = [read_log(RunFolder(tmp_path / name).log) for name in ("run", "again")]
    keys = ("step", "lr", "loss", "val_dice")
    assert [[entry.get(key) for key in keys] for entry in logs[0]] == [
        [entry.get(key) for key in keys] for entry in logs[1]
    ]


def test_the_clocks_of_both_stages_of_a_cascade_are_replayed(balls, tmp_path):
    settings = ball_settings(balls, iterations=5) | {
        "cascade": {"spacing": [2, 2, 2], "patch_size": [8, 8, 8], "model": {"channels": [4, 8]}}
    }
    fit(load_config(settings, ["train.budget=4s"]), tmp_path / "run", progress=QuietProgress())
    assert retrain(tmp_path / "run", tmp_path / "again").equal
    decisions = json.loads((tmp_path / "again" / "replay.json").read_text(encoding="utf-8"))
    assert len(decisions["first_stage"]) == 2


def test_what_cannot_be_reproduced_is_refused(copied, tmp_path):
    run = copied / "run"
    with pytest.raises(ConfigError, match="contains no run"):
        retrain(tmp_path / "none", tmp_path / "again")
    with pytest.raises(ConfigError, match="is the run itself"):
        retrain(run, run)
    RunFolder(run).extensions.write_text(json.dumps({"model": "nets:Small"}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"your own model \(nets:Small\)") as caught:
        retrain(run, tmp_path / "again")
    assert "--network nets:Small" in caught.value.hint
    (run / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="not finished"):
        retrain(run, tmp_path / "again")
