"""Workers and threads are planned from cores and measured times."""

import pytest

from medseg.config.schema import load_config
from medseg.planning.measured.step_timer import StepCost
from medseg.planning.measured.workers import plan_threads, plan_workers, seconds_of_patch


@pytest.mark.parametrize(
    ("cores", "patch_seconds", "workers"),
    [
        (1, 0.5, 0),  # the only core computes
        (8, 0.01, 1),
        (8, 0.14, 3),  # 2 patches an update, an update each 0.1 s
        (8, 0.9, 7),  # one core is left for the training itself
    ],
)
def test_updates_do_not_wait_for_patches(cores, patch_seconds, workers):
    assert plan_workers(cores, patch_seconds, batch_size=2, update_seconds=0.1) == workers


def test_slow_updates_need_one_worker():
    assert plan_workers(8, patch_seconds=0.5, batch_size=2, update_seconds=4.0) == 1


def test_the_time_of_a_patch_is_measured():
    config = load_config({"sampling": {"patch_size": [16, 16, 16]}})
    assert 0 < seconds_of_patch(config, 2) < 5
    objects = load_config({"sampling": {"patch_size": [16, 16, 16]}, "task": {"decoder": "rays"}})
    assert seconds_of_patch(objects, 2) > seconds_of_patch(config, 2)


class FixedTimer:
    def __init__(self, seconds):
        self.seconds = seconds

    def measure(self, candidate):
        return StepCost(self.seconds)


@pytest.mark.parametrize(
    ("cores", "with_half", "threads", "seconds"),
    [(8, 0.5, 4, 0.5), (8, 0.97, None, 1.0), (2, 0.5, None, 1.0)],
)
def test_fewer_threads_are_used_where_they_are_faster(cores, with_half, threads, seconds):
    assert plan_threads(FixedTimer(with_half), None, StepCost(1.0), cores) == (threads, seconds)
