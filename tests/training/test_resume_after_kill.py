"""Trainings killed and resumed, as whole processes."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ball_settings

from medseg.config.schema import load_config, to_yaml
from medseg.files import sha256_file
from medseg.inference.model.model_file import load_model

pytestmark = pytest.mark.slow


def command(config: Path, run: Path) -> list[str]:
    return [sys.executable, "-m", "medseg.train", str(config), "--run", str(run), "--resume", "auto"]


def finish(config: Path, run: Path) -> str:
    subprocess.run(command(config, run), check=True, capture_output=True, timeout=300)
    return load_model(run / "model.safetensors")[2]


def wait_for_a_new_checkpoint(run: Path, process: subprocess.Popen) -> None:
    last = run / "checkpoints" / "last.pt"
    before = last.stat().st_mtime_ns if last.exists() else 0
    while process.poll() is None:
        if last.exists() and last.stat().st_mtime_ns != before:
            return
        time.sleep(0.01)


@pytest.fixture
def config(balls, tmp_path):
    settings = ball_settings(balls, epochs=6, iterations=40, batch_size=2, ema=0.9, save_every_steps=3)
    settings["data"]["workers"] = 1
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(load_config(settings)))
    return path


def test_a_run_killed_five_times_equals_an_uninterrupted_one(config, tmp_path):
    expected = finish(config, tmp_path / "whole")
    draw = random.Random(0)
    kills = 0
    for attempt in range(5):
        process = subprocess.Popen(
            command(config, tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if attempt == 0:
            time.sleep(draw.uniform(0, 3))  # anywhere: importing, preparing, training
        else:
            wait_for_a_new_checkpoint(tmp_path / "killed", process)
            time.sleep(draw.uniform(0, 0.25))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills == 5
    assert finish(config, tmp_path / "killed") == expected
    best = [tmp_path / run / "log.jsonl" for run in ("whole", "killed")]
    assert [len(p.read_text().splitlines()) for p in best] == [6, 6]


def test_sigterm_saves_before_it_exits(config, tmp_path):
    expected = finish(config, tmp_path / "whole")
    text = config.read_text().replace("save_every_steps: 3", "save_every_steps: 1000")
    config.write_text(text)
    run = tmp_path / "stopped"
    process = subprocess.Popen(command(config, run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (run / "log.jsonl").exists() or not (run / "log.jsonl").read_text():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)
    before = sha256_file(run / "checkpoints" / "last.pt")
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 143
    assert "--resume auto" in message
    assert sha256_file(run / "checkpoints" / "last.pt") != before
    assert finish(config, run) == expected
