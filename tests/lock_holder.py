"""A process that holds the lock of a folder, as a training or an inference does, and starts at once."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

HOLD = """
import os, sys, time
from pathlib import Path
from medseg.system.locks import lock_folder
with lock_folder(Path(sys.argv[1]), "Wait."):
    worker = os.fork() if sys.argv[2] == "worker" else 1
    if worker == 0:
        time.sleep(600)
        os._exit(0)
    print(worker, flush=True)
    sys.stdin.read()
"""


@contextmanager
def locked(folder: Path, *, worker: bool = False):
    """Yield the process that holds the lock until it is killed, and the id of its worker process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(folder), "worker" if worker else "alone"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as holder:
        number = int(holder.stdout.readline())
        try:
            yield holder, number
        finally:
            holder.kill()
