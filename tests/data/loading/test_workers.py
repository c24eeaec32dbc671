"""Workers that die, hang or fail are named with the case they held, and leave no process behind."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from medseg.data.loading.augmentation import augmentation_preset
from medseg.data.loading.cache import write_cached_case
from medseg.data.loading.sampling import PatchDataset, PatchPlan, SamplingConfig, patch_batches
from medseg.data.loading.workers import report_worker_crash
from medseg.errors import DataError, TrainingError


@pytest.fixture
def cases(tmp_path):
    made = []
    for i in range(3):
        codes = np.ones((12, 12, 12), np.uint8)
        codes[4:8, 4:8, 4:8] = 2
        image = np.zeros((1, 12, 12, 12), np.float32)
        made.append(write_cached_case(tmp_path / f"case_{i}", image, codes, 2, (1, 1, 1)))
    return made


class Faulty(PatchDataset):
    """Does something bad with the second case."""

    def __init__(self, cases, deed):
        plan = PatchPlan(cases, ("background", "organ"), SamplingConfig(patch_size=(8, 8, 8)), seed=0)
        super().__init__(cases, plan, augmentation_preset("none"), 100)
        self.deed = deed

    def _sample(self, draw):
        if draw.case == 1:
            self.deed()
        return super()._sample(draw)


def test_a_death_that_is_noticed_elsewhere_is_told():
    with (
        pytest.raises(TrainingError, match=r"was killed \(Terminated\)\. Was memory short"),
        report_worker_crash(),
    ):
        raise RuntimeError("DataLoader worker (pid 9803) is killed by signal: Terminated. ")
    with pytest.raises(RuntimeError, match="sizes differ"), report_worker_crash():
        raise RuntimeError("sizes differ")


def run(cases, deed, workers=2, timeout=30.0):
    list(patch_batches(Faulty(cases, deed), batch_size=2, start=0, stop=20, workers=workers, timeout=timeout))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(60)


def lose():
    raise OSError("Stale file handle")


def no_process_is_left():
    for _ in range(50):
        if not multiprocessing.active_children():
            return True
        time.sleep(0.1)
    return False


def test_a_worker_that_is_killed(cases):
    with pytest.raises(TrainingError, match=r"worker process was killed \(Killed\).*case case_1"):
        run(cases, kill)
    assert no_process_is_left()


@pytest.mark.slow
def test_a_worker_that_hangs(cases):
    began = time.monotonic()
    with pytest.raises(
        TrainingError, match=r"stuck for \d+ s while preparing case case_1.*data\.worker_timeout"
    ):
        run(cases, hang, workers=1, timeout=2.0)
    assert time.monotonic() - began < 30
    assert no_process_is_left()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_case_that_cannot_be_read(cases, workers):
    with pytest.raises(DataError) as caught:
        run(cases, lose, workers=workers)
    assert str(caught.value).startswith("case case_1: cannot be read from the cache (Stale file handle). Start")
    assert no_process_is_left()


def test_errors_of_our_own_making_stay_what_they_are(cases):
    def fail():
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run(cases, fail, workers=0)


def test_cases_travel_to_workers_without_their_voxels(cases):
    import pickle

    _ = cases[0].image, cases[0].label
    assert len(pickle.dumps(cases[0])) < 2000
