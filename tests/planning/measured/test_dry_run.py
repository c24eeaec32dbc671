"""Estimates of time and memory."""

import pytest
from conftest import ball_settings

from medseg.cli.main import run as command
from medseg.config.schema import load_config, to_yaml
from medseg.planning.measured.dry_run import dry_run
from medseg.training.fit import fit


@pytest.mark.slow
def test_a_dry_run_estimates_and_starts_nothing(ball_config, tmp_path):
    estimate = dry_run(ball_config, tmp_path / "run")
    assert estimate.parameters > 100
    assert estimate.peak_memory_gb > 0.01
    assert estimate.hours > 0
    assert not (tmp_path / "run" / "config.yaml").exists()
    fit(ball_config, tmp_path / "run")  # the folder is still free


def test_a_dry_run_lists_its_assumptions(balls, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(to_yaml(load_config(ball_settings(balls))))
    assert command(["train", str(config), "--run", str(tmp_path / "run"), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "2 epochs of 4 updates" in text
    assert "2 patches of 16×16×16" in text
    assert "a validation every epoch of 1 of 1 case," in text
    assert " thread" in text


def test_a_dry_run_names_the_preparation_and_a_short_budget(balls, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(to_yaml(load_config(ball_settings(balls, epochs=1))))
    assert command(["train", str(config), "--run", str(tmp_path / "run"), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "the first start also prepares the cases" in text
    assert "for 5 minutes: --budget 5min" in text
    assert "1 epoch of 4 updates" in text
