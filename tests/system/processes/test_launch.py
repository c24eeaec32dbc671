import pytest

from medseg.system.processes.launch import Launch

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "host"}


@pytest.fixture(autouse=True)
def without_torchrun(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def test_a_process_without_torchrun_is_alone():
    assert Launch.of_this_process() == Launch(0, 1, 0, 1)
    assert Launch.of_this_process().is_first


def test_the_place_is_that_of_torchrun(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert Launch.of_this_process() == Launch(3, 4, 1, 2)
    assert not Launch.of_this_process().is_first


def test_the_rank_alone_connects_to_nothing(monkeypatch):  # some clusters set it for every job
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Launch.of_this_process().size == 1
