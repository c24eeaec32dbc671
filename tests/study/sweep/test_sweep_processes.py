import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ball_settings, write_balls

from medseg.config.schema import load_config, to_yaml

SPACE = """\
space:
  train.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
  train.ema: [0, 0.9]
"""


def claimed(folder):
    """Process id and trial of every claim whose training has validated once."""
    for path in sorted(folder.glob("trials/*/claims/[0-9]*.json")):
        log = path.parents[1] / "run" / "log.jsonl"
        if log.is_file() and log.stat().st_size:
            yield int(json.loads(path.read_text("utf-8"))["process"].split(".")[1]), path.parents[1]


@pytest.mark.slow
def test_one_of_two_processes_is_killed_and_all_trials_are_accounted_for(tmp_path):
    write_balls(tmp_path / "DATA", cases=8)
    settings = load_config(ball_settings(tmp_path / "DATA", epochs=10, iterations=2))
    (tmp_path / "balls.yaml").write_text(to_yaml(settings), encoding="utf-8")
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    study = tmp_path / "study"
    words = [
        "study",
        "sweep",
        "balls.yaml",
        "space.yaml",
        "--trials",
        "3",
        "--jobs",
        "2",
        "--output",
        str(study),
    ]
    with subprocess.Popen([sys.executable, "-m", "medseg", *words], cwd=tmp_path) as process:
        found = []
        while not found and process.poll() is None:
            time.sleep(0.05)
            found = list(claimed(study))
        killed, trial = found[0]
        assert killed != process.pid
        os.kill(killed, signal.SIGKILL)
        assert process.wait(300) == 0
    with (study / "trials.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["state"] in ("complete", "pruned") for row in rows] == [True] * 3
    assert rows[int(trial.name)]["processes"] == "2"
    epochs = [
        json.loads(line)["epoch"] for line in (trial / "run" / "log.jsonl").read_text("utf-8").splitlines()
    ]
    assert epochs == list(range(1, len(epochs) + 1))  # continued from the checkpoint
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["dice"]))
    config = load_config(study / "best.yaml")
    assert config.train.optimizer.lr == float(best["train.optimizer.lr"])
    assert len(list(study.glob("cache/*"))) > 0
    assert not list(study.glob("trials/*/run/cache"))  # it is shared
