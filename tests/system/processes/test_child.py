"""A process that its parent does not survive: it is killed, or asked to stop."""

import subprocess
import sys
import time

import pytest

PROGRAM = """
import pathlib, signal, sys, time
file = pathlib.Path(sys.argv[1])
def end(*_):
    file.with_name("saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
file.touch()
time.sleep(30)
"""
PARENT = """
import os, pathlib, signal, subprocess, sys, time
program, file, ending = sys.argv[1:]
child = [sys.executable, "-m", "medseg.system.processes.child", f"{os.getpid()}{ending}", "all"]
made = subprocess.Popen([*child, sys.executable, "-c", program, file])
while not pathlib.Path(file).exists():
    time.sleep(0.01)
print(made.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
@pytest.mark.parametrize(("ending", "saves"), [("", False), (":15", True)])
def test_the_end_of_a_killed_parent(tmp_path, ending, saves):
    command = [sys.executable, "-c", PARENT, PROGRAM, str(tmp_path / "started"), ending]
    parent = subprocess.run(
        command, stdout=subprocess.PIPE, check=False, timeout=60
    )  # until the child ends, too
    assert parent.returncode == -9  # stdout is open until the child has ended, too
    assert int(parent.stdout) > 0
    end = time.monotonic() + 5
    while saves and not (tmp_path / "saved").exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert (tmp_path / "saved").exists() == saves
