"""What ``medseg study status`` shows of complete runs and folds."""

import json

import pytest

from medseg.cli.main import run
from medseg.files import write_json
from medseg.study.executors.state import CellState, write_state
from medseg.study.status import study_status


@pytest.fixture
def folds(tmp_path):
    """A cross-validation of three folds: the first is trained, the second failed, the third waits."""
    write_json(tmp_path / "study.json", {"folds": 3})
    fold = tmp_path / "folds" / "fold_0"
    (fold / "run").mkdir(parents=True)
    entries = [{"epoch": 1, "loss": 1.0, "val_dice": 0.25}, {"epoch": 2, "loss": 0.5, "val_dice": 0.5}]
    (fold / "run" / "log.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in entries))
    (fold / "run" / "model.safetensors").touch()
    write_state(fold, CellState("complete", exit_code=0, seconds=18.0))
    write_state(tmp_path / "folds" / "fold_1", CellState("failed", exit_code=3, seconds=2.0))
    return tmp_path


@pytest.fixture
def scored(folds):
    """The same after the two held-out cases of the first fold were compared."""
    write_json(folds / "summary.json", {"folds": [{"fold": "0", "dice": 0.6}, {"fold": "all", "dice": 0.6}]})
    write_json(folds / "cases.json", [{"id": "a", "fold": 0}, {"id": "b", "fold": 0}, {"id": "c", "fold": 1}])
    (folds / "cases.csv").touch()
    predictions = folds / "out_of_fold" / "predictions"
    for case in "ab":
        write_json(predictions / "provenance" / f"{case}.json", {"case": case, "output": f"{case}.png"})
        (predictions / f"{case}.png").touch()
    return folds


def test_all_folds_are_listed_with_their_last_validation_until_their_cases_are_compared(folds, capsys):
    found = [(one.name, one.status, one.dice) for one in study_status(folds)]
    assert found == [("fold 0", "complete", None), ("fold 1", "failed", None), ("fold 2", "waiting", None)]
    assert study_status(folds)[0].detail == "validation Dice 0.5000; its cases are not compared yet"
    assert run(["study", "status", str(folds)]) == 4
    assert "1 complete, 1 failed, 1 waiting" in capsys.readouterr().out


def test_a_compared_fold_has_the_dice_of_its_cases(scored):
    first = study_status(scored)[0]
    assert (first.status, first.dice, first.detail) == ("complete", 0.6, "")


def test_missing_files_of_a_fold_are_named(scored):
    (scored / "out_of_fold" / "predictions" / "b.png").unlink()
    assert study_status(scored)[0].detail == "missing: 1 label map (b); repeat the study"
    (scored / "cases.csv").unlink()
    (scored / "out_of_fold" / "predictions" / "a.png").unlink()
    first = study_status(scored)[0]
    assert (first.status, first.detail) == (
        "complete",
        "missing: cases.csv, 2 label maps (a, b); repeat the study",
    )
    (scored / "folds" / "fold_0" / "run" / "model.safetensors").unlink()
    first = study_status(scored)[0]
    assert (first.status, first.detail) == ("waiting", "missing: model.safetensors")


def test_missing_files_of_a_run_are_named(tmp_path):
    entry = {"name": "plain, seed 0", "folder": "seed_0", "record": "seed_0/test/complete.json", "digest": "d"}
    write_json(tmp_path / "runs.json", {"runs": [entry]})
    write_json(tmp_path / entry["record"], {"digest": "d", "dice": 0.5, "seconds": 1.0})
    metrics = tmp_path / "seed_0" / "test" / "metrics"
    metrics.mkdir()
    (metrics / "cases.csv").touch()
    files = {
        case: {"reference": f"../{case}.png", "prediction": f"../predictions/{case}.png"} for case in "abcde"
    }
    write_json(metrics / "files.json", {"cases": files, "labels": None})
    (tmp_path / "seed_0" / "test" / "predictions").mkdir()
    (tmp_path / "seed_0" / "test" / "predictions" / "a.png").touch()
    (only,) = study_status(tmp_path)
    assert (only.status, only.dice) == ("complete", 0.5)
    assert only.detail == "missing: 4 label maps (b, c, d …); repeat the study"
    (metrics / "cases.csv").unlink()  # evaluated again when the study is repeated
    (only,) = study_status(tmp_path)
    assert (only.status, only.dice, only.detail) == ("waiting", None, "missing: cases.csv")
