"""Trainings killed and resumed, as whole processes."""

import os
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
from medseg.progress import QuietProgress
from medseg.training.fit import fit

pytestmark = pytest.mark.slow


def command(config: Path, run: Path) -> list[str]:
    return [sys.executable, "-m", "medseg.train", str(config), "--run", str(run), "--resume", "auto"]


def finish(config: Path, run: Path) -> str:
    """Train, or continue, in this process."""
    fit(load_config(config), run, resume="auto", progress=QuietProgress())
    return load_model(run / "model.safetensors")[2]


def wait_for_a_new_checkpoint(run: Path, process: subprocess.Popen) -> None:
    last = run / "checkpoints" / "last.pt"
    before = last.stat().st_mtime_ns if last.exists() else 0
    while process.poll() is None:
        if last.exists() and last.stat().st_mtime_ns != before:
            return
        time.sleep(0.01)


def cpu_seconds(process: subprocess.Popen) -> float:
    """The time that a process has computed, where the system tells it; it works on a busy machine, too."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_settings(balls: Path, path: Path, **train) -> Path:
    settings = ball_settings(balls, epochs=4, iterations=40, batch_size=2, ema=0.9, **train)
    settings["data"]["workers"] = 1
    path.write_text(to_yaml(load_config(settings)))
    return path


@pytest.fixture(scope="module")
def whole(balls, tmp_path_factory) -> tuple[str, Path]:
    """The digest of an uninterrupted run, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_settings(balls, folder / "config.yaml", save_every_steps=3)
    return finish(config, folder / "run"), folder / "run"


@pytest.mark.parametrize("times", [3, pytest.param(8, marks=pytest.mark.exhaustive)])
def test_a_killed_run_equals_an_uninterrupted_one(balls, whole, tmp_path, times):
    config = write_settings(balls, tmp_path / "config.yaml", save_every_steps=3)
    draw = random.Random(0)
    kills = 0
    for attempt in range(times):
        process = subprocess.Popen(
            command(config, tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if attempt == 0:
            time.sleep(draw.uniform(0, 3))  # anywhere: importing, preparing, training
        else:
            wait_for_a_new_checkpoint(tmp_path / "killed", process)
            time.sleep(draw.uniform(0, 0.1))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills == times
    assert finish(config, tmp_path / "killed") == whole[0]
    logs = [run / "log.jsonl" for run in (whole[1], tmp_path / "killed")]
    assert [len(log.read_text().splitlines()) for log in logs] == [4, 4]


def test_sigterm_saves_before_it_exits(balls, whole, tmp_path):
    config = write_settings(balls, tmp_path / "config.yaml", save_every_steps=1000)
    run = tmp_path / "stopped"
    process = subprocess.Popen(command(config, run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for_a_new_checkpoint(run, process)
    before, began = sha256_file(run / "checkpoints" / "last.pt"), cpu_seconds(process)
    while cpu_seconds(process) < began + 0.3:  # some updates
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 143
    assert "--resume auto" in message
    assert sha256_file(run / "checkpoints" / "last.pt") != before
    assert finish(config, run) == whole[0]
