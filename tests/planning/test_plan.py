"""Workers are planned from cores and the time a patch takes."""

import pytest
import torch

from medseg.config.schema import load_config
from medseg.planning import plan as planning


@pytest.mark.parametrize(
    ("cores", "on_gpu", "seconds", "workers"),
    [
        (1, False, 0.5, 0),  # the only core computes
        (8, False, 0.5, 1),  # updates on the CPU take longer than patches
        (1, True, 0.5, 0),
        (8, True, 0.01, 1),
        (8, True, 0.14, 3),  # 2 patches an update, an update each 0.1 s
        (8, True, 0.9, 7),  # one core is left for the training itself
    ],
)
def test_a_gpu_does_not_wait_for_one_worker(monkeypatch, cores, on_gpu, seconds, workers):
    class Fact:
        channels = 1

    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(planning, "seconds_of_patch", lambda config, channels: seconds)
    plan = {"sampling": {"patch_size": [16, 16, 16]}, "train": {"batch_size": 2}}
    assert planning._plan_workers(plan, Fact(), on_gpu) == workers


def test_the_time_of_a_patch_is_measured():
    config = load_config({"sampling": {"patch_size": [16, 16, 16]}})
    assert 0 < planning.seconds_of_patch(config, 2) < 5
