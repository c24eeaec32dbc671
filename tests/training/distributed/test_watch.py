import subprocess
import sys
import time

import pytest
import torch.distributed as dist

from medseg.errors import DataError
from medseg.system.platform import process_token
from medseg.system.processes.launch import Launch
from medseg.training.distributed.watch import RankWatch


def watch_pair(other: str, silence: float = 40.0) -> tuple[RankWatch, dist.Store]:
    """Return the watch of rank 0, without its thread, and the store that rank 1 writes to."""
    store = dist.HashStore()
    store.set("process/1", other)
    watch = RankWatch(store, Launch(0, 2, 0, 2), silence)
    watch.read_processes()
    return watch, store


def test_a_living_rank_is_no_problem():
    watch, _ = watch_pair(f"{process_token()} 77 node2")
    assert watch.explain(0.0) is None


def test_an_ended_process_is_named():
    code = "from medseg.system.platform import process_token; print(process_token())"
    token = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    watch, _ = watch_pair(f"{token} 77 node2")
    assert watch.explain(0.0) == "rank 1 (process 77 on node2) died"


def test_the_error_of_another_rank_is_reported():
    watch, store = watch_pair(f"{process_token()} 77 node2")
    RankWatch(store, Launch(1, 2, 1, 2), 40.0).report(DataError("case 3: unreadable", hint="Repair it."))
    assert watch.error_of(1, 0.0) == "case 3: unreadable"
    assert watch.error_of(0, 0.0) is None
    found = watch.explain(0.0)
    assert found is not None
    assert found.endswith("ended with an error: case 3: unreadable")


def test_a_silent_process_on_another_machine_counts_as_dead():
    watch, store = watch_pair("other.1.1 77 node2", silence=0.05)
    store.set("beat/1", "1")
    assert watch.explain(0.0) is None
    time.sleep(0.06)
    store.set("beat/1", "2")
    assert watch.explain(0.0) is None
    assert watch.explain(1.0) == "rank 1 (process 77 on node2) gave no sign of life for 0 s"


def test_a_lost_store_is_the_end(monkeypatch):
    watch, _ = watch_pair(f"{process_token()} 77 node2")
    monkeypatch.setattr(watch, "_problem_of", lambda rank: (_ for _ in ()).throw(RuntimeError("reset by peer")))
    found = watch.explain(0.0)
    assert found is not None
    assert found.startswith("torchrun, or the process")


@pytest.mark.parametrize("stopped", [True, False])
def test_a_process_that_does_not_end_by_itself_is_ended(monkeypatch, stopped, capfd):
    watch, store = watch_pair(f"{process_token()} 77 node2")
    store.set("error/1", "out of memory")
    codes = []
    monkeypatch.setattr("medseg.training.distributed.watch._PERIOD", 0.01)
    monkeypatch.setattr("medseg.training.distributed.watch._GRACE", 60.0 if stopped else 0.01)
    monkeypatch.setattr("os._exit", codes.append)
    watch.start()
    until = time.monotonic() + 60
    while watch._found is None or (not stopped and not codes):
        assert time.monotonic() < until
        time.sleep(0.01)
    watch.stop()
    assert codes == ([] if stopped else [1])
    assert ("out of memory" in capfd.readouterr().err) is not stopped
