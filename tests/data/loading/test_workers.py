"""Failures of workers are reported with the case they prepared and leave no process behind."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from medseg.data.augmentation import augmentation_preset
from medseg.data.loading.cache.cached_cases import write_cached_case
from medseg.data.loading.loader import LoaderOptions, patch_batches
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.data.loading.sampling.patch_dataset import PatchDataset
from medseg.data.loading.sampling.patch_sampler import PatchSampler
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


class FaultyFile:
    """A file of the cache whose voxels cannot be read."""

    def __init__(self, file, fault):
        self.metadata, self.fault = file.metadata, fault

    def __contains__(self, key):
        return False

    def __getitem__(self, key):
        self.fault()


def patches(cases):
    plan = PatchSampler(cases, ("background", "organ"), SamplingConfig(patch_size=(8, 8, 8)), seed=0)
    return PatchDataset(cases, plan, augmentation_preset("none"), 100)


def test_a_worker_crash_detected_elsewhere_is_reported():
    with (
        pytest.raises(TrainingError, match=r"was killed \(Terminated\)\. The machine may be out of memory"),
        report_worker_crash(),
    ):
        raise RuntimeError("DataLoader worker (pid 9803) is killed by signal: Terminated. ")
    with pytest.raises(RuntimeError, match="sizes differ"), report_worker_crash():
        raise RuntimeError("sizes differ")


def run(cases, fault, workers=2, timeout=30.0):
    faulty = replace(cases[1], file=FaultyFile(cases[1].file, fault))
    list(patch_batches(patches([cases[0], faulty, cases[2]]), LoaderOptions(2, 0, 20, workers, timeout)))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(60)


def raise_stale_handle():
    raise OSError("Stale file handle")


@pytest.fixture
def no_process_remains():
    """Whether all processes that the test started have ended; other tests may have left some of theirs."""
    before = {process.pid for process in multiprocessing.active_children()}

    def check():
        for _ in range(300):
            if {process.pid for process in multiprocessing.active_children()} <= before:
                return True
            time.sleep(0.1)
        return False

    return check


def test_a_killed_worker_is_reported(cases, no_process_remains):
    with pytest.raises(TrainingError, match=r"worker process was killed \(Killed\).*case case_1"):
        run(cases, kill)
    assert no_process_remains()


@pytest.mark.slow
def test_a_stuck_worker_is_reported(cases, no_process_remains):
    began = time.monotonic()
    with pytest.raises(
        TrainingError, match=r"stuck for \d+ s while preparing case case_1.*data\.worker_timeout"
    ):
        run(cases, hang, workers=1, timeout=2.0)
    assert time.monotonic() - began < 30
    assert no_process_remains()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_case_is_reported_by_a_typed_error(cases, workers, no_process_remains):
    with pytest.raises(DataError) as raised:
        run(cases, raise_stale_handle, workers=workers)
    assert raised.value.message == "case case_1: cannot be read from the cache (Stale file handle)"
    assert raised.value.hint is not None
    assert raised.value.case == "case_1"
    assert no_process_remains()


def test_other_errors_are_not_changed(cases):
    def fail():
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run(cases, fail, workers=0)


def test_a_value_that_the_augmentation_refuses_is_not_blamed_on_the_cache(cases, monkeypatch):
    def refuse(*arguments):
        raise ValueError("axes of another image")

    dataset = patches(cases)
    monkeypatch.setattr(dataset.augmenter, "apply_spatial", refuse)
    with pytest.raises(ValueError, match="axes of another image") as caught:
        _ = dataset[0]
    assert type(caught.value) is ValueError


def test_cases_are_pickled_without_their_voxels(cases):
    import pickle

    _ = cases[0].image, cases[0].label
    assert len(pickle.dumps(cases[0])) < 2000
