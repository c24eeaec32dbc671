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

handler = logging.StreamHandler()
handler.setLevel(logging.WARNING)
logging.getLogger().addHandler(handler)
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

QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}  # of the script that reads the model back

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
            closed = {**proxy.environment, "NO_PROXY": "127.0.0.1", "HOME": str(tmp_path / "home")}
            done = subprocess.run(
                [sys.executable, "-c", SETUP + textwrap.dedent(script)],
                capture_output=True, text=True, timeout=300,
                env={**kept, **QUIET, **closed},
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
    assert train.errors.startswith("train.epochs is 3, the run was started for 2")
    assert train.errors.count("\n") == 1  # neither messages of the migration nor other warnings
    assert not Path("mlruns").exists()
    assert list((tmp_path / "home").rglob("*")) == []


def test_wandb_receives_settings_scores_pictures_and_the_model(train, tmp_path):
    train(TWO_STARTS + "print('{}')", wandb={"project": "balls"})
    folders = sorted(Path("runs/first/wandb").glob("offline-run-*"))
    assert len(folders) == 2  # a resumed run continues in another folder, with the same id
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1
    records = [record for folder in folders for record in _read_wandb(next(folder.glob("*.wandb")))]
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    settings = {one.key: json.loads(one.value_json) for one in runs[0].config.update}
    assert (runs[0].project, runs[0].display_name, runs[0].host) == ("balls", "first", "")
    assert (settings["train.batch_size"], settings["model.channels"]) == (2, "[4, 8]")
    assert settings["cases.train"] == 4
    rows = [
        {".".join([*one.nested_key] or [one.key]): json.loads(one.value_json) for one in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    expected = [(entry["step"], entry["val_dice:core"], entry["loss"]) for entry in _log()]
    assert [(row["_step"], row["val/dice/core"], row["loss"]) for row in rows] == [
        tuple(pytest.approx(one) for one in row) for row in expected
    ]
    pictures = [row["val/worst_case.path"] for row in rows if "val/worst_case.path" in row]
    assert (folders[0] / "files" / pictures[0]).read_bytes().startswith(b"\x89PNG")
    artifacts = [record.artifact for record in records if record.WhichOneof("record_type") == "artifact"]
    assert Path(artifacts[-1].manifest.contents[0].local_path) == tmp_path / "runs/first/model.safetensors"
    exits = [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"]
    assert exits == [0, 0]
    sent = "".join(str(one) for one in records if one.WhichOneof("record_type") != "artifact")
    assert str(tmp_path) not in sent
    assert socket.gethostname() not in sent
    assert "ball_settings" not in sent  # the function of this test: no code, no command line
    assert train.errors.count("\n") == 1
    assert list((tmp_path / "home").rglob("*")) == []


def _read_wandb(path):
    """The records of an offline run: LevelDB's log format with the header :W&B."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, text = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position < len(data):
        block = 32768 - position % 32768
        if block < 7:
            position += block
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        part = data[position + 7 : position + 7 + length]
        position += 7 + length
        text = part if kind in (1, 2) else text + part  # 1 complete, 2 first, 3 middle, 4 last
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(text)
            yield record


def test_services_that_fail_do_not_stop_a_training(train, tmp_path):
    (tmp_path / "file").write_text("a file where a folder is needed")
    script = """
    began = __import__("time").monotonic()
    result = fit(load_config(settings), "runs/first", progress=quiet)
    print(json.dumps({"epochs": result.epochs, "seconds": __import__("time").monotonic() - began}))
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = train(script, mlflow={"uri": f"http://127.0.0.1:{port}"}, wandb={"folder": str(tmp_path / "file")})
    assert done["epochs"] == 2
    assert Path("runs/first/model.safetensors").is_file()
    warnings = [line for line in train.errors.splitlines() if " failed: " in line]
    assert [line.partition(" failed")[0] for line in warnings] == ["MLflow", "Weights & Biases"]
    assert all(line.endswith("The training is not affected") for line in warnings)
    assert done["seconds"] < 120
