import csv
import math
import shutil
import subprocess
import sys
import time

import pytest
from conftest import ball_settings, write_balls
from study_doubles import InProcess, evaluated, record_cases, replace_trainings

from medseg.cli.main import run
from medseg.config.schema import load_config, to_yaml
from medseg.errors import ConfigError, DataError
from medseg.files import write_json
from medseg.metrics import write_csv
from medseg.progress import QuietProgress
from medseg.study import AblationConfig, cell_job, run_ablation
from medseg.study.status import study_status

GRID = {"train.ema": (0.0, 0.9, 0.99)}


@pytest.fixture
def trainings(monkeypatch):
    """Replace trainings by scores; a cell with ema 0.99 fails. The list receives what was trained."""
    started = []

    def scores_of(config):
        ema, seed = config.train.ema, config.seed
        started.append((ema, seed))
        if ema == 0.99:
            raise DataError("case ball_3: unreadable", hint="Copy it again.")
        return evaluated((0.5 + ema / 10, 0.7 + ema / 10 + seed / 10))

    replace_trainings(monkeypatch, scores_of)
    return started


def read_table(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, quoting=csv.QUOTE_NONNUMERIC))


@pytest.fixture
def run_here():
    def run(folder, config=None):
        config = config or AblationConfig(ball_settings("DATA"), GRID, seeds=(0, 1))
        return run_ablation(config, folder, executor=InProcess(), progress=QuietProgress())

    return run


def test_the_tables_by_hand(trainings, run_here, tmp_path):
    result = run_here(tmp_path)
    baseline, better, broken = read_table(tmp_path / "table.csv")
    # seeds 0 and 1: (0.5 + 0.7) / 2 and (0.5 + 0.8) / 2
    assert (baseline["cell"], baseline["train.ema"], baseline["dice"]) == ("baseline", "0.0", 0.625)
    assert baseline["dice_sd_seeds"] == pytest.approx(0.05 / 2**0.5)
    assert better["cell"] == "train.ema=0.9"
    assert (better["difference"], better["ci_low"], better["ci_high"]) == pytest.approx((0.09, 0.09, 0.09))
    assert better["worst_tenth"] == pytest.approx(0.59)
    assert (better["seeds"], better["cases"], better["failed"], better["dice:ball"]) == (
        2,
        2,
        0,
        better["dice"],
    )
    assert (broken["cell"], broken["seeds"], broken["cases"], broken["failed"]) == ("train.ema=0.99", 0, 0, 2)
    assert all(math.isnan(broken[key]) for key in ("dice", "difference", "worst_tenth", "minutes", "dice:ball"))
    assert "| train.ema=0.99 | 0 (2 failed) |  |  |  |  |  |  |" in result.markdown
    rows = read_table(tmp_path / "cases.csv")
    assert [(row["cell"], row["seed"], row["case"]) for row in rows][:3] == [
        ("baseline", 0, "ball_0"),
        ("baseline", 0, "ball_1"),
        ("baseline", 1, "ball_0"),
    ]
    assert "| train.ema=0.9 | 2 | 0.7150 ± 0.0354 | +0.0900 | +0.0900 to +0.0900 |" in result.markdown
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == result.markdown


def test_a_failed_run_is_listed_with_its_log_and_the_others_go_on(trainings, run_here, tmp_path):
    grid = {"train.ema": (0.99, 0.9)}
    result = run_here(tmp_path, AblationConfig(ball_settings("DATA"), grid))
    assert [outcome.status for outcome in result.outcomes] == ["complete", "failed", "complete"]
    (failed,) = result.failed
    assert failed.error == "case ball_3: unreadable. Copy it again."
    assert failed.log.name == "output.log"
    assert failed.log.is_file()
    assert f"* train.ema=0.99, seed 0: {failed.error} (log: {failed.log})" in result.markdown


def test_without_the_baseline_there_are_no_differences(trainings, run_here, tmp_path):
    config = AblationConfig(ball_settings("DATA", ema=0.99), {"train.ema": (0.9,)})
    failed, row = run_here(tmp_path, config).table
    assert (failed["cell"], failed["seeds"], failed["failed"]) == ("baseline", 0, 1)
    assert row["cell"] == "train.ema=0.9"
    assert row["difference"] != row["difference"]


def test_one_case_has_a_difference_and_no_interval(monkeypatch, run_here, tmp_path):
    replace_trainings(monkeypatch, lambda config: evaluated((0.5 + config.train.ema / 10,), ("ball_0",)))
    result = run_here(tmp_path, AblationConfig(ball_settings("DATA"), {"train.ema": (0.9,)}))
    assert "| train.ema=0.9 | 1 | 0.5900 | +0.0900 |  | 0.5900 |" in result.markdown


def test_complete_runs_are_skipped_and_failed_ones_tried_again(trainings, run_here, tmp_path):
    first = run_here(tmp_path)
    assert len(trainings) == 6
    trainings.clear()
    again = run_here(tmp_path)
    assert trainings == [(0.99, 0), (0.99, 1)]
    assert [outcome.status for outcome in again.outcomes] == ["skipped"] * 4 + ["failed"] * 2
    assert again.table == first.table
    more = AblationConfig(ball_settings("DATA"), {"train.ema": (0.9, 0.5)}, seeds=(0, 1))
    trainings.clear()
    run_here(tmp_path, more)
    assert trainings == [(0.5, 0), (0.5, 1)]


def test_complete_runs_of_other_seeds_and_settings_are_named(trainings, run_here, tmp_path):
    first = run_here(tmp_path, AblationConfig(ball_settings("DATA"), {"train.ema": (0.9, 0.5)}, seeds=(0, 1)))
    assert "left out" not in first.markdown
    result = run_here(tmp_path, AblationConfig(ball_settings("DATA"), {"train.ema": (0.9,)}))
    assert [row["seeds"] for row in result.table] == [1, 1]
    (line,) = [line for line in result.markdown.splitlines() if "left out" in line]
    assert "are left out: seed 1, cells/train.ema=0.5-" in line


def test_missing_label_maps_of_complete_runs_are_predicted_again(trainings, run_here, tmp_path, caplog):
    config = AblationConfig(ball_settings("DATA"), {"train.ema": (0.9,)})
    run_here(tmp_path, config)
    (folder,) = (tmp_path / "cells").glob("baseline-*/seed_0")
    prediction = folder / "test" / "predictions" / "ball_0.nii.gz"
    files = {"ball_0": {"reference": "../../reference.nii.gz", "prediction": "../predictions/ball_0.nii.gz"}}
    write_json(folder / "test" / "metrics" / "files.json", {"cases": files, "labels": None})
    trainings.clear()
    run_here(tmp_path, config)  # without its model, the cases cannot be predicted
    assert (trainings, "the scores are kept" in caplog.text) == ([], True)
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "model.safetensors").touch()
    run_here(tmp_path, config)
    assert trainings == [(0.0, 0)]
    assert "baseline, seed 0: 1 label map is missing that had been evaluated" in caplog.text
    prediction.parent.mkdir()
    prediction.touch()
    trainings.clear()
    run_here(tmp_path, config)
    assert trainings == []


def test_a_run_whose_scores_were_deleted_is_evaluated_again(trainings, run_here, tmp_path):
    config = AblationConfig(ball_settings("DATA"), {"train.ema": (0.9,)})
    first = run_here(tmp_path, config)
    (scores,) = (tmp_path / "cells").glob("baseline-*/seed_0/test/metrics/cases.csv")
    scores.unlink()
    trainings.clear()
    assert run_here(tmp_path, config).table == first.table
    assert trainings == [(0.0, 0)]


def test_a_folder_keeps_to_its_study(trainings, run_here, tmp_path):
    config = AblationConfig(ball_settings("DATA"), {"train.ema": (0.9,)})
    run_here(tmp_path / "study", config)
    other = AblationConfig(ball_settings("DATA"), {"train.gradient_clip": (1.0,)})
    with pytest.raises(
        ConfigError, match=r"a study of train.ema on the test cases, expected train.gradient_clip"
    ):
        run_here(tmp_path / "study", other)
    foreign = tmp_path / "papers" / "draft.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    with pytest.raises(ConfigError, match="holds other files and no study"):
        run_here(foreign.parent, config)
    assert [path.name for path in foreign.parent.glob("[!.]*")] == ["draft.txt"]


def test_tables_of_complete_runs_survive_faulty_cases(trainings, run_here, tmp_path, monkeypatch):
    key = "preprocess.spacing"
    run_here(tmp_path, AblationConfig(ball_settings("DATA"), {key: ([1.0, 1.0, 1.0],)}))

    def fail(*arguments):
        raise DataError("\n  ".join(["faulty cases (9):"] + [f"case ball_{n}: unreadable" for n in range(9)]))

    monkeypatch.setattr(cell_job, "prepare_cases", fail)
    more = AblationConfig(ball_settings("DATA"), {key: ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])})
    result = run_here(tmp_path, more)
    assert [outcome.status for outcome in result.outcomes] == ["skipped", "skipped", "failed"]
    assert "faulty cases (9): case ball_0: unreadable … (log: " in result.markdown
    assert "ball_1" not in result.markdown  # once for each seed, the list would bury the table
    assert read_table(tmp_path / "table.csv")[0]["dice"] == pytest.approx(0.6)
    last = study_status(tmp_path)[-1]
    assert (last.status, last.detail.count("unreadable")) == ("failed", 1)  # it does not wait for anything


def test_the_split_must_have_cases_to_compare(balls, run_here, tmp_path):
    settings = ball_settings(balls)
    settings["data"]["split"] = {"name": "folds", "folds": 2}
    with pytest.raises(DataError, match="no test cases") as caught:
        run_here(tmp_path, AblationConfig(settings, GRID))
    assert "data.split.test" in caught.value.hint


@pytest.mark.parametrize(
    "changes", [{"grid": {}}, {"seeds": ()}, {"seeds": (1, 1)}, {"grid": {"seed": (0, 1)}}]
)
def test_studies_that_compare_nothing_are_refused(changes):
    with pytest.raises(ConfigError):
        AblationConfig(**{"source": {}, "grid": GRID, **changes})


def test_dry_run_lists_the_cells(tmp_path, capsys):
    path = tmp_path / "balls.yaml"
    path.write_text(to_yaml(load_config(ball_settings(tmp_path))), encoding="utf-8")
    command = ["study", "ablate", str(path), "train.ema=[0.9]", "--seeds", "0,1", "--dry-run"]
    assert run(command) == 0
    assert capsys.readouterr().out.splitlines() == ["baseline", "train.ema=0.9", "2 cells, 4 runs"]
    assert run([*command, "--data", str(tmp_path / "none")]) == 3
    assert f"error: data.path: {tmp_path / 'none'}: does not exist\nhint: Correct" in capsys.readouterr().err
    assert run([*command, "--seeds", "0,x"]) == 2
    assert run(["study", "ablate", str(tmp_path), "train.ema=[0.9]"]) == 2
    assert "medseg plan" in capsys.readouterr().err
    assert run(["study", "ablate", str(path), "train.emma=[0.9]"]) == 2
    assert "did you mean train.ema" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.exhaustive
def test_an_interrupted_study_continues_to_the_same_table(tmp_path):
    write_balls(tmp_path / "DATA", cases=8)
    path = tmp_path / "balls.yaml"
    path.write_text(to_yaml(load_config(ball_settings(tmp_path / "MISSING"))), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "medseg", "study", "ablate", str(path), "loss=[{name: ce}]"),
        *("--data", str(tmp_path / "DATA"), "--set", "train.epochs=1", "--output"),
    ]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)

    process = subprocess.Popen([*command, str(tmp_path / "broken")])
    while not list((tmp_path / "broken").glob("cells/*/seed_0/run/checkpoints/last.pt")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    subprocess.run([*command, str(tmp_path / "broken"), "--jobs", "2"], check=True)

    whole, broken = (read_table(tmp_path / name / "cases.csv") for name in ("whole", "broken"))
    assert [(row["cell"], row["case"]) for row in whole] == [(row["cell"], row["case"]) for row in broken]
    for row, other in zip(whole, broken, strict=True):
        assert row["dice"] == pytest.approx(other["dice"], abs=0.02)  # the number of threads may differ
    assert {row["cell"] for row in whole} == {"baseline", "loss=ce"}
    assert "| loss=ce |" in (tmp_path / "broken" / "table.md").read_text(encoding="utf-8")


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """A dataset, and trainings of it that record its files; returns the folder of the labels."""
    data = write_balls(tmp_path / "DATA", cases=2, size=16)

    def train(folder, order, progress):
        record_cases(folder / "run", order.config.data)
        rows = evaluated((0.5, 0.7))
        write_csv(folder / "test" / "metrics" / "cases.csv", rows)
        return rows

    replace_trainings(monkeypatch, None)
    monkeypatch.setattr(cell_job, "train_and_evaluate", train)
    return data / "labels"


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["all complete", "a new seed"])
def test_complete_runs_of_other_files_are_refused(recorded, run_here, tmp_path, seeds):
    settings, out = ball_settings(recorded.parent), tmp_path / "out"
    first = AblationConfig(settings, {"train.ema": (0.9,)})
    run_here(out, first)
    assert len(run_here(out, first).table) == 2  # nothing changed: complete runs are kept
    shutil.copy(recorded / "ball_1.nii.gz", recorded / "ball_0.nii.gz")
    files = [path for path in out.rglob("*.*") if "cache" not in path.parts]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = AblationConfig(settings, {"train.ema": (0.9,)}, seeds=seeds)
    with pytest.raises(DataError, match="case ball_0: label map changed") as caught:
        run_here(out, again)
    assert "the dataset changed since 2 of 2 finished runs began" in str(caught.value)
    assert before == {path: path.stat().st_mtime_ns for path in files}  # no table was written
    assert not list(out.glob("cells/*/seed_1"))
    shutil.rmtree(out / "cells")  # as the hint says
    assert {outcome.status for outcome in run_here(out, again).outcomes} == {"complete"}


def test_a_run_of_files_that_changed_during_the_study_is_left_out(recorded, run_here, tmp_path, monkeypatch):
    train = cell_job.train_and_evaluate

    def change_and_train(folder, order, progress):
        if order.config.train.ema:
            shutil.copy(recorded / "ball_1.nii.gz", recorded / "ball_0.nii.gz")
        return train(folder, order, progress)

    monkeypatch.setattr(cell_job, "train_and_evaluate", change_and_train)
    config = AblationConfig(ball_settings(recorded.parent), {"train.ema": (0.9,)})
    result = run_here(tmp_path / "out", config)
    (failed,) = result.failed
    assert failed.cell == "train.ema=0.9"
    assert "files of 1 cases changed since the first run began, scores left out: ball_0" in failed.error
    assert [(row["cell"], row["seeds"]) for row in result.table] == [("baseline", 1), ("train.ema=0.9", 0)]
