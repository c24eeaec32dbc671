"""A server in a process of its own, for tests over real connections."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = """
import sys
from medseg.server import serve
from medseg.server.options import ServerOptions
sys.path.insert(0, sys.argv[1])
import server_doubles
from medseg.server import app
from medseg.server.models import AutomaticModel, PromptModel
from medseg.inference.model.predictor import Predictor
from pathlib import Path

def load(options):
    predictor = Predictor(sys.argv[3], device="cpu", backend="torch", amp="off")
    source = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    return [AutomaticModel("tiny", predictor, source), PromptModel("cubes", server_doubles.Cubes())]

app.load_models = load
serve(
    ServerOptions(data=Path(sys.argv[2]), port=0, device="cpu", train=("train.device=cpu",)),
    started=lambda url: print("serving at", url, flush=True),
)
"""


class RunningServer:
    """A running server: its address and its process."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(data: Path, model: Path, *more: str) -> Iterator[RunningServer]:
    """Start a server with a tiny model and one that answers points, and end it."""
    tests = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tests.parents[1]), str(tests), str(tests.parent)]),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tests), str(data), str(model), *more], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+/", line)
        assert found is not None, process.stderr.read() if process.stderr is not None else line
        wait_for(found[0])
        yield RunningServer(process, found[0])
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"{url}health", timeout=5).read()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server does not answer")
