"""A training by ``torchrun`` whose process is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ball_settings
from rank_work import train_all

from medseg.config.schema import load_config, to_yaml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes of torchrun in /proc"),
]


def processes_of(parent: int) -> dict[int, int]:
    """Return rank → process id of the processes that a torchrun started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                lines = (folder / "environ").read_text().split("\0")
                variables = dict(line.partition("=")[::2] for line in lines)
                found[int(variables["RANK"])] = int(folder.name)
        except (OSError, KeyError):  # it ended, or has not started to run
            continue
    return found


def test_a_killed_rank_ends_the_job_by_name_and_one_process_resumes_it(balls, tmp_path):
    options = {"epochs": 3, "iterations": 20, "batch_size": 2, "save_every_steps": 1}
    raw = ball_settings(balls, optimizer={"name": "sgd", "lr": 0.05}, **options)
    raw["model"]["dropout"] = 0
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(to_yaml(load_config(raw)))
    job = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "medseg.train", str(config), "--run-folder", str(run)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (run / "checkpoints" / "last.pt").exists():
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.01)
    victim = processes_of(job.pid)[1]
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    message = job.communicate(timeout=60)[1]
    assert time.monotonic() - began < 60
    assert job.returncode != 0
    assert f"error: rank 1 (process {victim}" in message, message
    assert "--resume auto" in message
    train_all([(raw, tmp_path / "whole")])
    train_all([(raw, run)], resume="auto")
    losses = [
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "whole", run)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert "continuing at update" in (run / "messages.log").read_text()
