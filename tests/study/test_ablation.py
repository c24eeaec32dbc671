import csv
import signal

import pytest
from conftest import ball_settings, write_balls

from medseg.cli.main import run
from medseg.config.schema import load_config, to_yaml
from medseg.errors import ConfigError, DataError, TrainingStopped
from medseg.metrics import write_csv
from medseg.progress import QuietProgress
from medseg.study import AblationConfig, ablation, cell_run, run_ablation

GRID = {"train.ema": (0.0, 0.9, 0.99)}


def evaluated(dice):
    """Rows of an evaluation of two cases and one label."""
    return [
        {"case": case, "label": "1", "name": "ball", "status": "scored", "dice": value}
        for case, value in zip(("ball_0", "ball_1"), dice, strict=True)
    ]


@pytest.fixture
def trainings(monkeypatch):
    """Replace trainings by scores; a cell with ema 0.99 fails. The list receives what was trained."""
    started = []

    def train(run, progress):
        ema = run.config.train.ema
        started.append((ema, run.seed))
        if ema == 0.99:
            raise DataError("case ball_3: unreadable", hint="Copy it again.")
        rows = evaluated((0.5 + ema / 10, 0.7 + ema / 10 + run.seed / 10))
        write_csv(run.metrics / "cases.csv", rows)
        return rows

    monkeypatch.setattr(cell_run, "_train_and_evaluate", train)
    monkeypatch.setattr(ablation, "_prepare_cases", lambda run, progress: None)
    return started


def read_table(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, quoting=csv.QUOTE_NONNUMERIC))


def run_here(folder, config=None):
    config = config or AblationConfig(ball_settings("DATA"), GRID, seeds=(0, 1))
    return run_ablation(config, folder, progress=QuietProgress())


def test_the_tables_by_hand(trainings, tmp_path):
    result = run_here(tmp_path)
    baseline, better = read_table(tmp_path / "table.csv")
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
    rows = read_table(tmp_path / "cases.csv")
    assert [(row["cell"], row["seed"], row["case"]) for row in rows][:3] == [
        ("baseline", 0, "ball_0"),
        ("baseline", 0, "ball_1"),
        ("baseline", 1, "ball_0"),
    ]
    assert "| train.ema=0.9 | 2 | 0.7150 ± 0.0354 | +0.0900 | +0.0900 to +0.0900 |" in result.markdown
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == result.markdown


def test_a_failed_run_is_listed_with_its_log_and_the_others_go_on(trainings, tmp_path):
    grid = {"train.ema": (0.99, 0.9)}
    result = run_here(tmp_path, AblationConfig(ball_settings("DATA"), grid))
    assert [outcome.status for outcome in result.outcomes] == ["complete", "failed", "complete"]
    (failed,) = result.failed
    assert failed.error == "case ball_3: unreadable. Copy it again."
    assert "Traceback" in failed.log.read_text(encoding="utf-8")
    assert f"* train.ema=0.99, seed 0: {failed.error} (log: {failed.log})" in result.markdown


def test_without_the_baseline_there_are_no_differences(trainings, tmp_path):
    config = AblationConfig(ball_settings("DATA", ema=0.99), {"train.ema": (0.9,)})
    (row,) = run_here(tmp_path, config).table
    assert row["cell"] == "train.ema=0.9"
    assert row["difference"] != row["difference"]


def test_complete_runs_are_skipped_and_failed_ones_tried_again(trainings, tmp_path):
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


def test_a_signal_ends_the_study(trainings, tmp_path, monkeypatch):
    def stop(run, progress):
        raise TrainingStopped(signal.SIGTERM)

    monkeypatch.setattr(cell_run, "_train_and_evaluate", stop)
    with pytest.raises(TrainingStopped):
        run_here(tmp_path)


def test_the_split_must_have_cases_to_compare(balls, tmp_path):
    settings = ball_settings(balls)
    settings["data"]["split"] = {"name": "folds", "folds": 2}
    with pytest.raises(DataError, match="no test cases"):
        run_here(tmp_path, AblationConfig(settings, GRID))


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
    assert run([*command, "--seeds", "0,x"]) == 2
    assert run(["study", "ablate", str(tmp_path), "train.ema=[0.9]"]) == 2
    assert "medseg plan" in capsys.readouterr().err
    assert run(["study", "ablate", str(path), "train.emma=[0.9]"]) == 2
    assert "did you mean train.ema" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_study_continues_to_the_same_table(tmp_path, capsys, monkeypatch):
    write_balls(tmp_path / "DATA", cases=8)
    path = tmp_path / "balls.yaml"
    path.write_text(to_yaml(load_config(ball_settings(tmp_path / "MISSING"))), encoding="utf-8")
    command = [
        *(
            "study",
            "ablate",
            str(path),
            "loss=[{name: dice}, {name: top_k_ce}]",
            "--data",
            str(tmp_path / "DATA"),
        ),
        *("--set", "train.epochs=1", "--output"),
    ]
    assert run([*command, str(tmp_path / "whole")]) == 0
    printed = capsys.readouterr().out
    assert "| loss=top_k_ce |" in printed

    evaluate = cell_run.evaluate_cases

    def evaluate_once(*arguments):
        monkeypatch.setattr(cell_run, "evaluate_cases", killed)
        return evaluate(*arguments)

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cell_run, "evaluate_cases", evaluate_once)
    assert run([*command, str(tmp_path / "broken")]) == 130
    monkeypatch.setattr(cell_run, "evaluate_cases", evaluate)
    assert run([*command, str(tmp_path / "broken")]) == 0
    whole, broken = (read_table(tmp_path / name / "cases.csv") for name in ("whole", "broken"))
    assert whole == broken
    assert {row["cell"] for row in whole} == {"baseline", "loss=dice", "loss=top_k_ce"}
    assert (tmp_path / "broken" / "cache").is_dir()
