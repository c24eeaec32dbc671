"""``/train/``: trainings in processes of their own."""

import json
import os
import sys
import time

import numpy as np
import pytest
from conftest import ball_settings, write_balls
from server_doubles import client_of, make_app, tiny_predictor, write_dataset
from test_datastore_routes import nrrd, put

from medseg.config.schema import load_config, to_yaml
from medseg.data.io.readers import read_scan
from medseg.server.models import AutomaticModel
from medseg.server.training import process
from medseg.training.run_folder.layout import RunFolder

SCRIPT = """
import json, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[sys.argv.index("--run") + 1])
run.mkdir(parents=True, exist_ok=True)
(run / "checkpoints").mkdir(exist_ok=True)
def end(*_):
    (run / "checkpoints" / "last.pt").write_text("state")
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
resumed = (run / "checkpoints" / "last.pt").exists()
entry = {"epoch": 2 if resumed else 1, "step": 4, "loss": 0.5, "val_dice": 0.75}
(run / "log.jsonl").write_text(json.dumps(entry) + "\\n")
(run / "arguments.tmp").write_text(json.dumps(sys.argv[1:]))
(run / "arguments.tmp").rename(run / "arguments.json")
print("Doe^Jane")
if not resumed:
    time.sleep(60)
(run / "model.safetensors").write_text("")
"""


@pytest.fixture
def quick_process(tmp_path, monkeypatch):
    """A program in the place of ``medseg train`` that starts at once."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    popen = process.subprocess.Popen

    def start(command, **options):
        assert command[2:5] == ["medseg.system.processes.child", f"{os.getpid()}:15", "all"]  # SIGTERM saves
        return popen([sys.executable, str(script), *command[command.index("train") :]], **options)

    monkeypatch.setattr(process.subprocess, "Popen", start)


def wait(until, seconds=120):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_training_starts_stops_and_continues(tmp_path, quick_process):
    root = write_dataset(tmp_path / "data", labeled=2, unlabeled=1)
    with client_of(make_app(root)) as client:
        assert client.get("/train/?check_if_running=true").status_code == 404
        assert client.get("/train/").status_code == 404
        assert client.post("/train/other").status_code == 404
        assert client.post("/train/new", json={"epochs": "x"}).status_code == 400
        started = client.post("/train/", json={"client_id": "ana", "epochs": 3, "evil": "data.path=/"}).json()
        assert started["status"] == "RUNNING"
        assert client.post("/train/new").status_code == 503
        run = root / ".medseg" / "runs" / "new-1"
        wait(lambda: (run / "arguments.json").exists())
        assert client.get("/train/?check_if_running=true").json()["status"] == "RUNNING"
        assert client.get("/train/").json()["details"] == ["epoch 1  loss 0.5000"]
        assert client.get("/info/").json()["train_stats"]["new"]["best_metric"] == 0.75
        arguments = json.loads((run / "arguments.json").read_text())
        assert arguments[:2] == ["train", str(root)]
        assert arguments[-2:] == ["data.unlabeled=leave_out", "train.epochs=3"]
        stopped = client.delete("/train/").json()
        assert stopped["status"] == "STOPPED"
        assert client.get("/train/?check_if_running=true").status_code == 404
        assert client.post("/train/").json()["status"] == "RUNNING"
        wait(lambda: client.get("/train/").json()["status"] == "DONE")
        assert client.get("/train/").json()["details"] == ["epoch 2  loss 0.5000"]
        assert [path.name for path in sorted(run.parent.iterdir())] == ["new-1", "new-1.log"]
        assert not any("Doe" in line for line in client.get("/logs/").json())
        client.post("/train/")
        wait(lambda: (root / ".medseg" / "runs" / "new-2").is_dir())
    assert not client.app.state.server.temporary.exists()


def test_a_restarted_server_reports_the_interrupted_training(tmp_path, quick_process):
    root = write_dataset(tmp_path / "data", labeled=2)
    run = root / ".medseg" / "runs" / "new-1"
    (run / "checkpoints").mkdir(parents=True)
    with client_of(make_app(root)) as client:
        early = client.get("/train/").json()
        assert early["status"] == "STOPPED"
        assert early["details"] == [
            "interrupted: its server ended; it had saved no state: the next start begins anew"
        ]
    (run / "checkpoints" / "last.pt").write_text("state")
    (run / "log.jsonl").write_text('{"epoch": 1, "loss": 0.5}\n')
    with client_of(make_app(root)) as client:
        assert client.get("/train/?check_if_running=true").status_code == 404
        left = client.get("/train/").json()
        assert (left["status"], left["model"], left["exit_code"]) == ("STOPPED", "new", None)
        assert left["details"][0] == "epoch 1  loss 0.5000"
        assert (
            left["details"][1] == "interrupted: its server ended; the next start of this training continues it"
        )
        client.post("/train/")
        wait(lambda: client.get("/train/").json()["status"] == "DONE")
    with client_of(make_app(root)) as client:
        assert client.get("/train/").status_code == 404  # complete


def test_too_few_labels_are_said(tmp_path):
    with client_of(make_app(write_dataset(tmp_path / "data", labeled=1))) as client:
        assert client.post("/train/").status_code == 412


@pytest.mark.slow
def test_a_real_training_is_stopped_resumed_with_a_new_label_and_served(tmp_path):
    root = write_balls(tmp_path / "data", cases=6)
    (root / "labels" / "ball_5.nii.gz").unlink()
    run = tmp_path / "first"
    run.mkdir()
    settings = ball_settings(root, epochs=20)
    (run / "config.yaml").write_text(to_yaml(load_config(settings)))
    model = AutomaticModel("balls", tiny_predictor(tmp_path / "tiny.safetensors"), run)
    app = make_app(root, [model], train=("train.device=cpu",))
    training = app.state.server.training
    assert training.names() == ["balls"]
    training.start("balls", {})
    newest = root / ".medseg" / "runs" / "balls-1"
    wait(lambda: len(process.read_log(newest / "log.jsonl")) >= 2)
    assert training.stop()["status"] == "STOPPED"
    assert RunFolder(newest).last.exists()
    assert not RunFolder(newest).model.exists()
    store = app.state.server.datastore
    with client_of(app) as client:
        label = np.zeros(store.scan("ball_5").grid.shape, np.uint8)
        label[5:9, 5:9, 5:9] = 1
        reply = put(client, nrrd(label, tmp_path, store.scan("ball_5").grid.affine), image="ball_5")
        assert reply.status_code == 200, reply.text
        training.start("balls", {"epochs": 5})  # a training that continues is not shortened
        wait(lambda: not training._last.is_running)
        assert training.current()["status"] == "DONE", training._last.output.read_text()[-2000:]
        parts = json.loads((newest / "cases.json").read_text())
        assert "ball_5" in json.dumps(parts)
        served = app.state.server.models.get("balls")
        assert len(process.read_log(newest / "log.jsonl")) == 20
        assert served.digest != app.state.server.models.automatic[0].predictor.digest or served is not model
        assert served.predict(read_scan(root / "images" / "ball_0.nii.gz")).label_map.shape == (20, 20, 20)
