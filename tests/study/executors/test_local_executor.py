import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from medseg.errors import ConfigError, StudyStopped
from medseg.study.executors import CellCommand, LocalExecutor, process, read_state
from medseg.study.executors.state import CellState, write_state
from medseg.system.processes.cores import THREAD_VARIABLES, usable_core_numbers


def python(name, code, folder, **environment):
    return CellCommand(name, (sys.executable, "-S", "-c", code), folder / name, environment)


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} was not written"
        time.sleep(0.02)


def test_a_failed_cell_is_a_result_and_the_others_run(tmp_path):
    cells = [
        python("bad", "print('about to fail'); raise SystemExit(3)", tmp_path),
        python("good", "import os; print(os.environ['MINE'])", tmp_path, MINE="yes"),
    ]
    reported = []
    bad, good = LocalExecutor().run(cells, reported.append)
    assert reported == [bad, good]
    assert (bad.exit_code, bad.succeeded, bad.stopped, bad.tail(1)) == (3, False, False, "about to fail")
    assert bad.describe() == f"bad: exit code 3 (log: {tmp_path / 'bad' / 'output.log'})"
    assert (good.succeeded, good.tail(1)) == (True, "yes")
    assert [read_state(cell.folder).status for cell in cells] == ["failed", "complete"]
    assert read_state(bad.cell.folder).exit_code == 3


def test_the_log_keeps_all_runs_and_the_tail_is_of_the_last_one(tmp_path):
    LocalExecutor().run([python("a", "print('first')", tmp_path)])
    (result,) = LocalExecutor().run([python("a", "print('second')", tmp_path)])
    assert "first" in result.cell.log.read_text(encoding="utf-8")
    assert result.tail().splitlines()[1:] == ["second"]  # after the command line
    assert "python" in result.tail().splitlines()[0]


def test_a_killed_cell_is_described(tmp_path):
    (result,) = LocalExecutor().run([python("a", "import os; os.kill(os.getpid(), 9)", tmp_path)])
    assert "killed by signal 9" in result.describe()
    assert read_state(tmp_path / "a").status == "failed"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_jobs_run_at_the_same_time_on_their_own_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.study.executors.local.usable_core_numbers", usable_core_numbers)
    code = (
        "import json, os, pathlib, time\n"
        "pathlib.Path(r'{own}').touch()\n"
        "while not pathlib.Path(r'{other}').exists(): time.sleep(0.02)\n"
        "print(json.dumps([sorted(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS'],"
        " os.environ['CUDA_VISIBLE_DEVICES']]))"
    )
    names = {"a": "b", "b": "a"}
    cells = [
        python(name, code.format(own=tmp_path / f"{name}.on", other=tmp_path / f"{other}.on"), tmp_path)
        for name, other in names.items()
    ]
    executor = LocalExecutor(jobs=2, gpus=["0", "7"])
    results = executor.run(cells)
    found = [json.loads(result.tail(1)) for result in results]
    assert sorted(gpu for *_, gpu in found) == ["0", "7"]
    assert {tuple(cores) for cores, *_ in found} == {share.cores for share in executor.shares()}
    assert all(int(threads) <= len(cores) for cores, threads, _ in found)


def test_a_smaller_number_of_threads_is_kept(monkeypatch):
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    from medseg.study.executors.shares import Share

    assert Share((0, 1, 2)).environment()["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert Share((0, 1, 2)).environment()["OMP_NUM_THREADS"] == "1"
    assert Share().environment() == {}


SAVES = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(r'{folder}/saved').touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path(r'{folder}/ready').touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_cells_save_and_ends_the_study(tmp_path, number):
    cells = [python("a", SAVES.format(folder=tmp_path), tmp_path), python("b", "print(1)", tmp_path)]

    def interrupt():
        wait_for(tmp_path / "ready")
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(StudyStopped) as caught:
        LocalExecutor().run(cells)
    thread.join()
    assert caught.value.exit_code == 128 + number
    assert "study" in caught.value.message
    assert (tmp_path / "saved").exists()
    assert read_state(tmp_path / "a").status == "stopped"
    assert read_state(tmp_path / "b").status == "waiting"


def test_a_cell_that_ignores_the_request_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    code = (
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path(r'{tmp_path / 'ready'}').touch(); time.sleep(60)"
    )
    result = process.run_cell(python("a", code, tmp_path), stop=(tmp_path / "ready").exists)
    assert (result.exit_code, result.stopped) == (-9, True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
def test_cells_die_with_a_killed_executor(tmp_path):
    code = f"import os, time; open(r'{tmp_path / 'pid'}', 'w').write(str(os.getpid())); time.sleep(60)"
    script = (
        "import pathlib, sys\n"
        "from medseg.study.executors import CellCommand, LocalExecutor\n"
        f"command = (sys.executable, '-c', {code!r})\n"
        f"LocalExecutor().run([CellCommand('a', command, pathlib.Path(r'{tmp_path}') / 'a')])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    wait_for(tmp_path / "pid")
    while not (text := (tmp_path / "pid").read_text()):
        time.sleep(0.02)
    assert read_state(tmp_path / "a").status == "running"
    parent.kill()
    parent.wait()
    end = time.monotonic() + 60
    while os.path.exists(f"/proc/{text}") and time.monotonic() < end:  # noqa: PTH110
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{text}")  # noqa: PTH110
    assert read_state(tmp_path / "a").status == "stopped"


def test_the_state_of_another_machine_is_believed(tmp_path):
    write_state(tmp_path, CellState("running", process="other.1.1"))
    assert read_state(tmp_path).status == "running"


def test_jobs_must_be_positive():
    with pytest.raises(ConfigError, match="at least 1"):
        LocalExecutor(jobs=0)
