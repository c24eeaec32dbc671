"""The cache that runs share, and the folder of a killed run."""

import os

import pytest
import torch
from conftest import ball_settings

from medseg.config.schema import load_config
from medseg.data.curation import case_statistics as facts_module
from medseg.data.loading.cache import cached_cases as cache_module
from medseg.planning.measured.dry_run import dry_run
from medseg.progress import QuietProgress
from medseg.training.fit import fit
from medseg.training.run_folder.checkpoint import random_state, restore_random_state
from medseg.training.run_folder.layout import RunFolder


def test_runs_with_one_cache_measure_and_prepare_each_case_once(balls, tmp_path, monkeypatch):
    config = load_config(ball_settings(balls), [f"data.cache={tmp_path / 'cache'}"])
    dry_run(config, tmp_path / "one")
    monkeypatch.setattr(facts_module, "measure_case", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(cache_module, "_prepare", lambda *_: pytest.fail("prepared again"))
    dry_run(config, tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_a_half_written_checkpoint_of_a_killed_run_is_removed(tmp_path):
    config = load_config(ball_settings(tmp_path))
    run = RunFolder(tmp_path / "run")
    run.start(config, resume=False)
    run.last.parent.mkdir()
    half = run.last.parent / ".tmp-0a1b2c3d-last.pt"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    run.start(config, resume=True)
    assert not half.exists()


def test_a_run_resumes_where_there_are_fewer_gpus(monkeypatch):
    state = random_state() | {"cuda": [torch.zeros(16, dtype=torch.uint8)] * 4}
    restored = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, index: restored.append(index))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    restore_random_state(state)
    assert restored == [0, 1]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    restore_random_state(state)
    assert restored == [0, 1]


def test_every_stage_of_a_training_is_reported(balls, tmp_path):
    class Recorded(QuietProgress):
        def __init__(self):
            self.stages = []

        def start(self, total, description, *, unit="cases", completed=0):
            self.stages.append(f"{description}: {total} {unit}")

    progress = Recorded()
    fit(load_config(ball_settings(balls, epochs=1)), tmp_path / "run", progress=progress)
    assert progress.stages == [
        "checking cases: 6 cases",
        "preparing training cases: 4 cases",
        "preparing validation cases: 1 cases",
        "training: 4 updates",
        "validating: 1 cases",
    ]
