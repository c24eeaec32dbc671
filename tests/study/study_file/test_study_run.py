import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ball_settings, write_balls
from study_doubles import InProcess, evaluated, record_cases, replace_trainings

from medseg.cli.main import run
from medseg.config.schema import load_config, to_yaml
from medseg.errors import ConfigError, DataError
from medseg.files import write_json
from medseg.progress import QuietProgress
from medseg.study.status import study_status
from medseg.study.study_file import load_study, plan_runs, run_study_file
from medseg.study.study_file.comparisons import average_rows, find_files

CASES = tuple(f"ball_{i}" for i in range(6))


@pytest.fixture
def in_process():
    return InProcess()


@pytest.fixture
def study_file(tmp_path):
    """Two configurations, two datasets, two seeds."""
    (tmp_path / "balls.yaml").write_text(to_yaml(load_config(ball_settings("D"))), encoding="utf-8")
    path = tmp_path / "study.yaml"
    path.write_text(
        "configs:\n"
        "  plain: balls.yaml\n"
        "  ema: {config: balls.yaml, set: {train.ema: 0.9}}\n"
        "datasets:\n"
        "  small: small\n"
        "  large: {path: large, set: {sampling.patch_size: [8, 8, 8]}}\n"
        "seeds: [0, 1]\n"
        "set: {train.epochs: 3, sampling.patch_size: [12, 12, 12]}\n"
        "comparisons: [{baseline: plain, also: [nsd]}]\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def trainings(monkeypatch):
    """With ema, every case is better by 0.1; seed 1 of it fails on the large dataset."""

    def scores_of(config):
        gain = 0.1 if config.train.ema else 0.0
        if gain and config.seed == 1 and config.data.path.name == "large":
            raise DataError("case ball_3: unreadable")
        values = [0.5 + gain + index / 100 + config.seed / 10 for index in range(len(CASES))]
        rows = evaluated(values, CASES)
        return [{**row, "nsd": row["dice"]} for row in rows]

    replace_trainings(monkeypatch, scores_of)


def test_settings_of_study_dataset_and_configuration_are_set_over_one_another(study_file, tmp_path):
    cells, runs = plan_runs(load_study(study_file), tmp_path / "out")
    plain, ema = cells["small"]
    assert (plain.name, plain.config.train.epochs, plain.config.train.ema) == ("plain", 3, 0.0)
    assert (ema.name, ema.config.train.ema) == ("ema", 0.9)
    assert plain.config.data.path == tmp_path / "small"
    assert plain.config.sampling.patch_size == (12, 12, 12)
    assert cells["large"][0].config.sampling.patch_size == (8, 8, 8)
    assert [one.name for one in runs][:4] == [
        "small, plain, seed 0",
        "small, ema, seed 0",
        "large, plain, seed 0",
        "large, ema, seed 0",
    ]
    assert len({one.folder for one in runs}) == 8


def test_a_dry_run_lists_the_datasets_that_do_not_exist(study_file, tmp_path, capsys):
    dry = ["study", "run", str(study_file), "--dry-run"]
    assert run(dry) == 3
    error = capsys.readouterr().err
    assert "error: datasets are missing (2):\n" in error
    assert f"{tmp_path / 'small'}: does not exist" in error
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    assert run(dry) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "8 runs"


def test_folds_hold_every_case_out_once(study_file, tmp_path):
    _, runs = plan_runs(load_study(study_file, ["folds=3", "seeds=[0]"]), tmp_path / "out")
    assert len(runs) == 12
    splits = [one.config.data.split for one in runs if one.cell.name == "ema" and one.dataset == "small"]
    assert [(split.folds, split.fold, split.test) for split in splits] == [(3, 0, 0), (3, 1, 0), (3, 2, 0)]
    assert {one.part for one in runs} == {"val"}
    assert {one.config.train.checkpoint for one in runs} == {"last"}


def test_a_study_with_a_failed_run(trainings, in_process, study_file, tmp_path):
    out = tmp_path / "out"
    result = run_study_file(load_study(study_file), out, executor=in_process, progress=QuietProgress())
    (failed,) = result.failed
    assert failed.describe().startswith("large, ema, seed 1: case ball_3: unreadable (log: ")
    assert failed.describe() in result.markdown
    rows = {(row["dataset"], row["cell"]): row for row in result.table}
    assert rows["small", "plain"]["dice"] == pytest.approx(0.525 + 0.05)
    assert rows["small", "ema"]["difference"] == pytest.approx(0.1)
    assert (rows["large", "ema"]["seeds"], rows["large", "ema"]["failed"]) == (1, 1)

    small = result.comparisons[out / "comparisons" / "all" / "small"]
    pair = small.pairs[0]
    assert (pair.method, pair.baseline, pair.n) == ("ema", "plain", 6)
    assert pair.difference == pytest.approx(0.1)
    assert (out / "comparisons" / "all" / "small" / "report.html").is_file()
    assert "scores are means over 2 seeds (0, 1); pictures show the predictions of seed 0" in small.notes
    large = result.comparisons[out / "comparisons" / "all" / "large"]  # only seed 0 is complete in both
    assert large.pairs[0].difference == pytest.approx(0.1)
    assert not any("seeds" in note for note in large.notes)

    statuses = {one.name: one for one in study_status(out)}
    assert statuses["small, ema, seed 1"].status == "complete"
    assert statuses["small, ema, seed 1"].dice == pytest.approx(0.725)
    assert statuses["large, ema, seed 1"].status == "failed"
    assert statuses["large, ema, seed 1"].detail.startswith("case ball_3: unreadable")
    assert sum("preparation" in str(folder) for folder in in_process.ran) == 2

    in_process.ran.clear()
    again = run_study_file(load_study(study_file), out, executor=in_process, progress=QuietProgress())
    assert [folder.name for folder in in_process.ran] == ["seed_1"]  # prepared and complete ones are kept
    assert again.markdown == result.markdown


def test_datasets_with_different_labels_are_in_one_table(monkeypatch, in_process, study_file, tmp_path):
    def scores_of(config):
        name = config.data.path.name
        return [{**row, "name": name, "nsd": 1.0} for row in evaluated((0.5, 0.5))]

    replace_trainings(monkeypatch, scores_of)
    study = load_study(study_file, ["seeds=[0]"])
    result = run_study_file(study, tmp_path / "out", executor=in_process, progress=QuietProgress())
    head, *rows = (tmp_path / "out" / "table.csv").read_text(encoding="utf-8").splitlines()
    assert head.endswith('"dice:small","dice:large"')
    assert [row.split(",")[-2:] for row in rows] == [["0.5", "nan"]] * 2 + [["nan", "0.5"]] * 2
    assert not result.failed


def test_configurations_with_other_test_cases_are_compared_on_those_of_both(
    monkeypatch, in_process, study_file, tmp_path
):
    def scores_of(config):
        rows = evaluated([0.5 + config.train.ema / 10] * 5, CASES[1:] if config.train.ema else CASES[:5])
        return [{**row, "nsd": 1.0} for row in rows]

    replace_trainings(monkeypatch, scores_of)
    study = load_study(study_file, ["seeds=[0]", "datasets={small: small}"])
    result = run_study_file(study, tmp_path / "out", executor=in_process, progress=QuietProgress())
    (comparison,) = result.comparisons.values()
    # ball_0 and ball_5 are test cases of one configuration only: no case is missing
    assert (comparison.pairs[0].n, comparison.pairs[0].difference) == (4, pytest.approx(0.09))
    assert set(comparison.table.excluded) == {"ball_0", "ball_5"}


def test_folds_are_put_together_and_incomplete_seeds_left_out(monkeypatch, in_process, study_file, tmp_path):
    def scores_of(config):
        fold = config.data.split.fold
        if fold == 1 and config.seed == 1:
            raise DataError("broken")
        return evaluated((0.5 + fold / 10, 0.5 + fold / 10), CASES[2 * fold : 2 * fold + 2])

    replace_trainings(monkeypatch, scores_of)
    study = load_study(study_file, ["folds=3", "datasets={small: small}"])
    result = run_study_file(study, tmp_path / "out", executor=in_process, progress=QuietProgress())
    row = result.table[0]
    assert (row["seeds"], row["cases"], row["failed"]) == (1, 6, 1)
    assert row["dice"] == pytest.approx(0.6)
    assert "small, plain, seed 1, fold 1: broken" in result.markdown


def test_the_command_lists_failures_and_status_shows_them(
    trainings, in_process, study_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("medseg.study.executors.LocalExecutor", lambda jobs: in_process)
    out = tmp_path / "out"
    assert run(["study", "run", str(study_file), "--output", str(out), "--jobs", "2"]) == 4
    printed = capsys.readouterr()
    assert "failed: large, ema, seed 1: case ball_3: unreadable" in printed.err
    assert "| small | ema | 2 |" in printed.out
    assert f"report: {out / 'comparisons' / 'all' / 'small' / 'report.html'}" in printed.out
    assert run(["study", "status", str(out)]) == 4
    assert "7 complete, 1 failed" in capsys.readouterr().out
    assert run(["study", "status", str(out), "--json"]) == 4
    assert len(json.loads(capsys.readouterr().out)) == 8
    (out / "runs.json").unlink()  # as for folds of a cv: every process is listed
    assert run(["study", "status", str(out)]) == 4
    assert "9 complete, 1 failed" in capsys.readouterr().out
    assert run(["study", "status", str(out / "comparisons")]) == 3


def test_the_command_refuses_complete_runs_of_a_dataset_that_changed(
    trainings, in_process, study_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("medseg.study.executors.LocalExecutor", lambda jobs: in_process)
    write_balls(tmp_path / "small", cases=2, size=16)
    out = tmp_path / "out"
    command = ["study", "run", str(study_file), "--set", "datasets={small: small}", "--output", str(out)]
    assert run([*command, "--jobs", "1"]) == 0
    _, runs = plan_runs(load_study(study_file, ["datasets={small: small}"]), out)
    for one in runs:
        record_cases(one.folder / "run", one.config.data)
    assert run([*command, "--jobs", "1"]) == 0
    (tmp_path / "small" / "images" / "ball_1.nii.gz").unlink()
    (tmp_path / "small" / "labels" / "ball_1.nii.gz").unlink()
    in_process.ran.clear()
    capsys.readouterr()
    assert run([*command, "--jobs", "1"]) == 3
    printed = capsys.readouterr()
    assert "case ball_1: missing (it was in test)" in printed.err
    assert "| small |" not in printed.out
    assert in_process.ran == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sedes=[0]", "did you mean seeds"),
        ("seeds=[0, 0]", "different numbers"),
        ("configs.plain=none.yaml", "no configuration file none.yaml"),
        ("configs.a/b=balls.yaml", "name of a folder"),
        ("comparisons=[{baseline: other}]", "no configuration 'other'"),
        ("comparisons=[{}, {}]", "same name"),
        ("comparisons=[{configs: [ema]}]", "two or more different ones"),
        ("comparisons=[{configs: [ema, ema]}]", "two or more different ones"),
        ("comparisons=[{configs: [plain, ema], baseline: wide}]", "none of the compared configs"),
        ("set.seed=3", "seed is set by seeds"),
        ("comparisons=[{metric: zzz}]", "metric 'zzz': not known"),
        ("comparisons=[{also: [zzz]}]", "metric 'zzz': not known"),
        ("set.train.emma=0.5", "did you mean"),
        ("executor.name=lokal", "did you mean local"),
    ],
)
def test_wrong_studies_are_refused_before_anything_runs(study_file, tmp_path, override, words):
    with pytest.raises(ConfigError, match=words):
        plan_runs(load_study(study_file, [override]), tmp_path)


def test_scores_are_averaged_over_seeds_by_hand():
    rows = [
        {"case": "a", "label": "1", "name": "ball", "status": "scored", "dice": 0.5, "hd95_mm": math.nan},
        {"case": "a", "label": "1", "name": "ball", "status": "scored", "dice": math.nan, "hd95_mm": 4.0},
    ]
    (row,) = average_rows([[rows[0]], [rows[1]]])
    # undefined: correctly empty in that seed, so Dice 1 and distance 0
    assert (row["dice"], row["hd95_mm"], row["status"]) == (0.75, 2.0, "scored")
    both = average_rows([[rows[1]], [rows[1]]])[0]
    assert math.isnan(both["dice"])


def test_pictures_show_the_files_of_all_folds(tmp_path):
    runs = []
    for fold in (0, 1):
        folder, case = tmp_path / f"fold_{fold}", f"ball_{fold}"
        files = {case: {"reference": f"references/{case}.png", "prediction": f"predictions/{case}.png"}}
        write_json(folder / "metrics/files.json", {"cases": files, "labels": None})
        record = {"id": case, "image": f"images/{case}.png", "label": None, "part": "val"}
        write_json(folder / "run/cases.json", [record])
        runs.append(SimpleNamespace(metrics=folder / "metrics", folder=folder, part="val"))
    (tmp_path / "fold_1/run/cases.json").unlink()
    files, labels = find_files(runs)
    assert labels is None
    assert files["ball_0"].image == Path("images/ball_0.png")
    assert files["ball_0"].prediction == tmp_path / "fold_0/metrics/predictions/ball_0.png"
    assert files["ball_1"].image is None
    assert files["ball_1"].reference == tmp_path / "fold_1/metrics/references/ball_1.png"
