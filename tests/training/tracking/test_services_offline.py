"""MLflow and Weights & Biases without a network: trainings complete, and what was logged is read back."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from conftest import ball_settings

pytestmark = pytest.mark.slow

SETUP = """
import json, logging, os, pathlib, socket, sys, warnings

logging.basicConfig(level=logging.WARNING)
connect, lookup = socket.socket.connect, socket.getaddrinfo

def is_local(host):
    return not isinstance(host, str) or host in ("127.0.0.1", "localhost", "::1", "")

def check(host):
    if not is_local(host):
        with open("network.txt", "a") as file:
            print(host, file=file)
        raise OSError(f"the network is closed: {host}")

def closed(self, address):
    check(address[0] if isinstance(address, tuple) else "")
    return connect(self, address)

def closed_lookup(host, *arguments, **options):
    check(host)
    return lookup(host, *arguments, **options)

socket.socket.connect, socket.getaddrinfo = closed, closed_lookup

from medseg import fit, load_config, QuietProgress
settings = json.loads(pathlib.Path("settings.json").read_text())
quiet = QuietProgress()
"""

TWO_STARTS = """
fit(load_config(settings), "runs/first", progress=quiet)
settings["train"]["epochs"] = 3
fit(load_config(settings), "runs/first", resume="auto", progress=quiet)
"""


class _Proxy:
    """Counts the connections that programs without a network try to open."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.attempts = 0
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()
        return self

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.attempts += 1
            connection.close()

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()

    @property
    def environment(self):
        url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        return dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), url)


@pytest.fixture
def train(balls, tmp_path, monkeypatch):
    """A function that trains in a process without a network, and returns what the process printed as JSON."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()

    def run(script, **tracking):
        settings = ball_settings(balls, epochs=2, iterations=2, tracking=tracking)
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if key in os.environ}
        with _Proxy() as proxy:
            done = subprocess.run(
                [sys.executable, "-c", SETUP + textwrap.dedent(script)],
                capture_output=True, text=True, timeout=300,
                env={**kept, "HOME": str(tmp_path / "home"), **proxy.environment},
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "network.txt").exists()
        assert proxy.attempts == 0
        run.errors = done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def _log():
    return [json.loads(line) for line in Path("runs/first/log.jsonl").read_text().splitlines()]


def test_mlflow_receives_settings_scores_pictures_and_the_model(train, tmp_path):
    script = """
    from mlflow import MlflowClient
    client = MlflowClient("sqlite:///tracking/mlflow.db")
    experiment = client.get_experiment_by_name("balls")
    runs = client.search_runs([experiment.experiment_id])
    run = runs[0]
    history = client.get_metric_history(run.info.run_id, "val/dice/core")
    print(json.dumps({
        "runs": len(runs), "name": run.info.run_name, "status": run.info.status, "user": run.info.user_id,
        "params": run.data.params, "tags": run.data.tags, "metrics": run.data.metrics,
        "history": [[one.step, one.value] for one in history],
        "files": [one.path for one in client.list_artifacts(run.info.run_id)],
        "pictures": [one.path for one in client.list_artifacts(run.info.run_id, "images")],
        "model": client.download_artifacts(run.info.run_id, "model.safetensors", "."),
    }))
    """
    options = {"database": "tracking/mlflow.db", "experiment": "balls"}
    logged = train(TWO_STARTS + textwrap.dedent(script), mlflow=options)
    assert (logged["runs"], logged["name"], logged["status"]) == (1, "first", "FINISHED")
    assert logged["params"]["train.batch_size"] == "2"
    assert logged["params"]["model.channels"] == "[4, 8]"
    assert logged["tags"]["cases.train"] == "4"
    assert "packages.torch" in logged["tags"]
    expected = [[entry["step"], entry["val_dice:core"]] for entry in _log()]
    assert [step for step, _ in expected] == [2, 4, 6]
    assert logged["history"] == [[step, pytest.approx(score)] for step, score in expected]
    assert logged["metrics"]["loss"] == pytest.approx(_log()[-1]["loss"])
    assert any(name.startswith("images/val~ball_") for name in logged["pictures"])
    assert Path(logged["model"]).read_bytes() == Path("runs/first/model.safetensors").read_bytes()
    sent = json.dumps([logged["params"], logged["tags"], logged["name"], logged["user"]])
    assert str(tmp_path) not in sent
    assert socket.gethostname() not in sent
    assert not train.errors  # neither messages of the migration nor warnings
    assert not Path("mlruns").exists()
    assert list((tmp_path / "home").rglob("*")) == []


def test_wandb_receives_settings_scores_pictures_and_the_model(train, tmp_path):
    train(TWO_STARTS + "print('{}')", wandb={"project": "balls"})
    folders = sorted(Path("runs/first/wandb").glob("offline-run-*"))
    assert len(folders) == 2  # a resumed run continues in another folder, with the same id
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1
    print(folders)
