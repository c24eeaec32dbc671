"""Whole cross-validations of tiny networks; trainings run in this process, or are killed with their parent."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ball_settings, write_balls
from study_doubles import InProcessCommands as InProcess

from medseg.cli.main import run
from medseg.config.schema import load_config, to_yaml
from medseg.data.curation.splits import FileSplit
from medseg.errors import ConfigError, DataError
from medseg.inference.model.ensemble.file import load_ensemble
from medseg.inference.model.model_file import load_model
from medseg.inference.tta_search import TTAVariant
from medseg.progress import QuietProgress
from medseg.study import CrossValidationConfig, cross_validate
from medseg.study.cross_validation.selection import tta

pytestmark = pytest.mark.slow
TINY = ("train.epochs=1", "train.iterations=2", "data.split.test=0.25")


def validate(balls, folder, executor=None, folds=2, **options):
    config = CrossValidationConfig(ball_settings(balls), TINY, folds=folds, **options)
    return cross_validate(config, folder, progress=QuietProgress(), executor=executor or InProcess())


@pytest.fixture(scope="module")
def eight_balls(tmp_path_factory):
    return write_balls(tmp_path_factory.mktemp("eight"), cases=8)


@pytest.fixture(scope="module")
def finished(eight_balls, tmp_path_factory):
    """A finished study of two folds with two test cases."""
    folder = tmp_path_factory.mktemp("finished") / "cv"
    return validate(eight_balls, folder)


def read_table(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, quoting=csv.QUOTE_NONNUMERIC))


def test_every_case_is_predicted_by_the_model_that_did_not_train_on_it(finished):
    root = finished.output
    splits = json.loads((root / "splits.json").read_text(encoding="utf-8"))
    digests = [load_model(root / f"folds/fold_{k}/run/model.safetensors")[2] for k in (0, 1)]
    records = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in (root / "out_of_fold/predictions/provenance").glob("*.json")
    }
    assert sorted(records) == sorted(splits[0]["val"] + splits[1]["val"])
    for fold, split in enumerate(splits):
        for case in split["val"]:
            assert [one["model"] for one in records[case]["made_of"]["models"]] == [digests[fold]]
            assert case not in split["train"]


def test_tables(finished):
    rows = read_table(finished.output / "table.csv")
    assert [(row["fold"], row["cases"]) for row in rows] == [("0", 3), ("1", 3), ("all", 6)]
    assert rows == finished.table
    cases = read_table(finished.output / "cases.csv")
    assert len(cases) == 12  # 6 cases, 2 labels
    assert {row["fold"] for row in cases} == {0, 1}
    assert (finished.output / "table.md").read_text(encoding="utf-8") == finished.markdown
    assert "2 test cases, on which nothing was trained" in finished.markdown
    report = (finished.output / "report.html").read_text(encoding="utf-8")
    assert "each predicted by the model that did not train on it" in report
    assert (finished.output / "out_of_fold/metrics/report.html").is_file()


def test_the_ensemble_contains_the_models_of_all_folds(finished):
    header, models = load_ensemble(finished.model)
    assert header.training["folds"] == 2
    for fold, model in enumerate(models):
        _, tensors, digest = load_model(finished.output / f"folds/fold_{fold}/run/model.safetensors")
        assert header.training["members"][fold] == digest
        assert all(tensor.equal(tensors[name]) for name, tensor in model.tensors.items())
        steps = model.header.inference.postprocess
        rows = json.loads((finished.output / "summary.json").read_text(encoding="utf-8"))["settings"]
        assert steps.names == {
            row["label"] for row in rows if row["setting"] != "none" and "threshold" not in row["setting"]
        }


def test_the_study_folder_is_a_model(finished, tmp_path):
    command = ["infer", "--model", str(finished.output), "--cases", "test", "--output", str(tmp_path / "out")]
    assert run(command) == 0
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2
    copy = shutil.copytree(finished.output, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    methods = [f"a={finished.output}", f"b={copy}"]
    assert run(["compare", *methods, "--output", str(tmp_path / "compared")]) == 0


def test_folds_share_preprocessing_and_use_the_last_weights(finished):
    configs = [load_config(finished.output / f"folds/fold_{k}/config.yaml") for k in (0, 1)]
    assert {config.data.cache for config in configs} == {(finished.output / "cache").absolute()}
    assert {config.train.checkpoint for config in configs} == {"last"}
    assert isinstance(configs[0].data.split, FileSplit)
    assert not (finished.output / "folds/fold_0/run/cache").exists()


def test_started_again_nothing_is_trained_and_the_tables_stay(finished, eight_balls):
    executor = InProcess()
    again = validate(eight_balls, finished.output, executor)
    assert executor.started == []
    assert again.markdown == finished.markdown


def test_other_settings_are_refused(finished, eight_balls):
    with pytest.raises(ConfigError, match="folds: 2 → 3"):
        validate(eight_balls, finished.output, folds=3)
    config = CrossValidationConfig(ball_settings(eight_balls), (*TINY, "seed=1"), folds=2)
    with pytest.raises(ConfigError, match="seed: 0 → 1"):
        cross_validate(config, finished.output, progress=QuietProgress())


def test_a_failed_fold_is_listed_and_trained_again(finished, eight_balls, tmp_path):
    shutil.copytree(finished.output / "folds/fold_0", tmp_path / "cv/folds/fold_0")
    config = tmp_path / "cv/folds/fold_0/run/config.yaml"
    config.write_text(config.read_text().replace(str(finished.output), str(tmp_path / "cv")))
    first = validate(eight_balls, tmp_path / "cv", InProcess(failing=("fold 1",)))
    assert [one.describe() for one in first.failed] == [
        f"fold 1: out of memory (log: {tmp_path / 'cv/folds/fold_1/output.log'})"
    ]
    assert [row["fold"] for row in first.table] == ["0", "all"]
    assert first.model is None
    assert "Failed folds:" in first.markdown
    executor = InProcess()
    second = validate(eight_balls, tmp_path / "cv", executor)
    assert executor.started == ["fold 1"]
    assert second.table == finished.table
    assert second.markdown == finished.markdown


def test_chosen_mirrors_are_those_of_the_predictions_and_the_ensemble(eight_balls, tmp_path, monkeypatch):
    def invented(predictor, case, progress):
        progress.advance(case.id)
        return 0.8 if predictor.header.inference.flips == (1,) else 0.5

    monkeypatch.setattr(tta, "mean_dice_of_case", invented)
    monkeypatch.setattr(tta, "tta_variants", lambda *given: [TTAVariant(), TTAVariant((0,)), TTAVariant((1,))])
    settings = {**ball_settings(eight_balls), "augment": {"flip": {"probability": 0.5, "axes": [0, 1]}}}
    config = CrossValidationConfig(settings, TINY, folds=2, tta=True)
    result = cross_validate(config, tmp_path / "cv2", progress=QuietProgress(), executor=InProcess())
    for _ in range(2):  # the second time, everything is read
        _, models = load_ensemble(result.model)
        assert [model.header.inference.flips for model in models] == [(1,), (1,)]
        records = list((tmp_path / "cv2/out_of_fold/predictions/provenance").glob("*.json"))
        made_of = [json.loads(path.read_text(encoding="utf-8"))["made_of"]["models"][0] for path in records]
        assert [one["inference"][0]["flips"] for one in made_of] == [[1]] * 6
        times = {path: path.stat().st_mtime_ns for path in records}
        result = cross_validate(config, tmp_path / "cv2", progress=QuietProgress(), executor=InProcess())
        assert times == {path: path.stat().st_mtime_ns for path in records}


def test_a_changed_label_is_named(finished, eight_balls, tmp_path):
    shutil.copytree(finished.output, tmp_path / "cv", ignore=shutil.ignore_patterns("cache"))
    shutil.copytree(eight_balls, tmp_path / "data")
    shutil.copy(tmp_path / "data/labels/ball_1.nii.gz", tmp_path / "data/labels/ball_0.nii.gz")
    with pytest.raises(DataError, match="case ball_0: label map changed"):
        validate(tmp_path / "data", tmp_path / "cv")


def wait_for(path, process, seconds=120):
    """Wait until a file exists; fail if the process ends before."""
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"ended before {path} existed"
        assert time.monotonic() < until, f"no {path}"
        time.sleep(0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children end with a killed parent on Linux")
@pytest.mark.exhaustive
def test_a_study_killed_three_times_ends_with_the_same_tables(tmp_path):
    data = write_balls(tmp_path / "data", cases=8)
    config = tmp_path / "balls.yaml"
    settings = [*TINY, "train.epochs=3", "train.save_every_steps=1"]
    config.write_text(to_yaml(load_config(ball_settings(data), settings)), encoding="utf-8")
    command = [sys.executable, "-m", "medseg", "study", "cv", str(config), "--folds", "2", "--output"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    for point in (
        "folds/fold_0/run/checkpoints/last.pt",
        "folds/fold_1/run/checkpoints/last.pt",
        "out_of_fold/predictions/provenance",
    ):
        process = subprocess.Popen([*command, str(broken)], env=environment, stderr=subprocess.DEVNULL)
        wait_for(broken / point, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for folder in (broken, whole):
        assert subprocess.run([*command, str(folder)], env=environment, check=False).returncode == 0
    for name in ("table.csv", "cases.csv", "table.md"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    ours, theirs = (load_ensemble(folder / "model.safetensors")[1] for folder in (broken, whole))
    assert [model.digest for model in ours] == [model.digest for model in theirs]
