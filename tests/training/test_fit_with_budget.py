"""Trainings with a time budget, on a clock that moves two seconds per update and one per validated case."""

import json
import os
import signal

import pytest
import torch
from conftest import ball_settings

from medseg.cli.main import run as command
from medseg.config.schema import load_config, to_yaml
from medseg.errors import ConfigError, TrainingStopped
from medseg.inference.model.model_file import load_model
from medseg.planning.measured.dry_run import dry_run
from medseg.progress import QuietProgress
from medseg.training.fit import fit
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.pacing.end_within_budget import BudgetPace
from medseg.training.run_folder.checkpoint import load_checkpoint
from medseg.training.run_folder.log import read_log
from medseg.training.run_folder.report import RunReport


class Ticker(QuietProgress):
    """Moves its clock with the progress; may stop the training after a number of updates."""

    def __init__(self, now: float = 0.0, stop_after: int | None = None) -> None:
        self.now, self.stop_after, self.updates = now, stop_after, 0
        self.stages: list[str] = []
        self.budget_clock = lambda: self.now

    def start(self, total, description, *, unit="cases", completed=0):
        self.stages.append(description)

    def advance(self, detail=""):
        self.now += {"training": 2.0, "validating": 1.0}.get(self.stages[-1], 0.0)
        self.updates += self.stages[-1] == "training"
        if self.updates == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def finish(self):
        self.stages.pop()


def train(config, run, ticker, seconds=30.0, **options):
    budget = TimeBudget(seconds, clock=ticker.budget_clock)
    return fit(config, run, progress=ticker, budget=budget, **options)


@pytest.fixture
def config(balls):
    return load_config(ball_settings(balls, iterations=5, ema=0.9, validate_share=0.5))


def test_the_training_fills_the_budget(config, tmp_path):
    ticker = Ticker()
    result = train(config, tmp_path / "run", ticker)
    assert 28.5 <= ticker.now <= 31.5
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert [entry["step"] for entry in log[:2]] == [5, 10]
    assert log[-1]["step"] == ticker.updates
    assert "val_dice" in log[-1]
    assert result.epochs == 3
    assert load_config(tmp_path / "run" / "config.yaml").train.budget == 0.5
    assert json.loads((tmp_path / "run" / "clock.json").read_text())["seconds_used"] >= 28
    pace = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["pace"]
    assert pace["finished"]
    assert pace["segments"][-1]["stop"] == ticker.updates
    assert ": schedule from " in (tmp_path / "run" / "messages.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 8])
def test_a_resumed_run_keeps_the_budget_and_ends_with_the_same_weights(config, tmp_path, at):
    whole = Ticker()
    train(config, tmp_path / "whole", whole)
    first = Ticker(stop_after=at)
    with pytest.raises(TrainingStopped):
        train(config, tmp_path / "broken", first)
    second = Ticker(now=1000.0)
    train(config, tmp_path / "broken", second, resume="auto")
    assert first.now + second.now - 1000 == whole.now
    assert first.updates + second.updates == whole.updates
    weights = [load_model(tmp_path / name / "model.safetensors")[1] for name in ("whole", "broken")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_finished_run_stays_as_it_is(config, tmp_path):
    train(config, tmp_path / "run", Ticker(), seconds=5.0)
    again = Ticker()
    train(config, tmp_path / "run", again, seconds=5.0, resume="auto")
    assert again.updates == 0
    with pytest.raises(ConfigError, match=r"train\.budget: .* → "):
        train(config, tmp_path / "run", Ticker(), seconds=4.0, resume="auto")


@pytest.mark.slow
def test_a_longer_budget_continues_an_interrupted_run(config, tmp_path):
    with pytest.raises(TrainingStopped):
        train(config, tmp_path / "run", Ticker(stop_after=3))
    second = Ticker()
    train(config, tmp_path / "run", second, seconds=36.0, resume="auto")
    assert 28 <= second.now <= 32  # 6 s were used before
    assert load_config(tmp_path / "run" / "config.yaml").train.budget == 0.6


def test_time_before_the_training_counts(config, tmp_path):
    ticker = Ticker(now=20.0)
    budget = TimeBudget(30.0, clock=ticker.budget_clock, began=0.0)
    fit(config, tmp_path / "run", progress=ticker, budget=budget)
    assert 3 <= ticker.updates <= 5
    assert ticker.now <= 31.5


def test_a_budget_that_is_over_still_gives_a_model(config, tmp_path):
    ticker = Ticker(now=30.0)
    budget = TimeBudget(1.0, clock=ticker.budget_clock, began=0.0)
    result = fit(config, tmp_path / "run", progress=ticker, budget=budget)
    assert ticker.updates == 1
    assert result.best is None
    assert load_model(result.model)
    assert "no time to validate" in (tmp_path / "run" / "messages.log").read_text()


def test_fewer_cases_are_validated_where_there_is_less_time_than_an_epoch(balls, tmp_path):
    settings = ball_settings(balls, iterations=1000, validate_share=0.15)
    settings["data"]["split"] = {"name": "fraction", "val": 0.5, "test": 0.0}
    ticker = Ticker()
    train(load_config(settings), tmp_path / "run", ticker, seconds=30.0)
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert [entry["val_cases"] for entry in log] == [1]
    assert ticker.now <= 31.5


def test_the_command_sets_the_budget(balls, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(to_yaml(load_config(ball_settings(balls))))
    arguments = ["train", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")]
    assert command([*arguments, "--budget", "soon"]) == 2
    assert "expected a duration such as 90s" in capsys.readouterr().err
    # the test process is older than 1 second: one update, and the model file
    assert command([*arguments, "--budget", "1s"]) == 0
    assert load_config(tmp_path / "run" / "config.yaml").train.budget == pytest.approx(1 / 60)
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_dry_run_names_the_budget(balls, tmp_path):
    estimate = dry_run(load_config(ball_settings(balls, budget="90s")), tmp_path / "run")
    assert estimate.hours == pytest.approx(0.025)
    assert "1.5 minutes" in estimate.assumed[0]


def test_the_report_of_a_training_that_ends_with_a_validation_is_final(balls, tmp_path, monkeypatch):
    def end(pace, step):
        pace.record.finished = True

    written = []
    monkeypatch.setattr(BudgetPace, "after_validation", end)  # no time is left after it
    monkeypatch.setattr(RunReport, "write", lambda _, running: written.append(running))
    train(load_config(ball_settings(balls, iterations=2, validate_share=None)), tmp_path / "run", Ticker())
    assert written == [False]
