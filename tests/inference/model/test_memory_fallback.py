"""A case that does not fit into memory fails; the others are segmented."""

import csv
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_picture, write_volume
from nnunet_recipe import write_model
from nnunet_recipe import write_volume as write_nnunet_volume
from test_ensemble import model

from medseg.cli.main import run
from medseg.data.cases import Case
from medseg.errors import OutOfMemoryError
from medseg.inference.backends import TorchBackend
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.distributed import PredictorSpec, _infer_one
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.batch.options import BatchOptions
from medseg.inference.model.model_file import save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.sliding_window.options import Execution
from medseg.interop.nnunet.predict import NnunetPredictor

NO_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes. Error code 12"
TESTS = Path(__file__).resolve().parents[2]

LIMITED = """
import resource, sys
from pathlib import Path
import torch
from medseg.cli.main import run
from medseg.inference.model.predictor import Predictor

model, scans, output, room = sys.argv[1:5]
Predictor(model, device="cpu", backend="torch", amp="off").predict(Path(scans) / "small.png")
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(float(room) * 2**20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
command = ["infer", scans, "--model", model, "--output", output, "--backend", "torch", "--amp", "off", "--json"]
sys.exit(run(command))
"""


def fails_above(windows, predict):
    """A backend's ``predict`` that has memory for so many windows at once."""

    def limited(batch):
        if len(batch) > windows:
            raise RuntimeError(NO_MEMORY)
        return predict(batch)

    return limited


@pytest.fixture
def scans(tmp_path):
    for name, size in (("a", 9), ("large", 30), ("z", 9)):
        voxels = np.random.default_rng(size).normal(size=(size, 9, 9)).astype(np.float32)
        write_volume(tmp_path / "scans" / f"{name}.nii.gz", voxels)
    return find_inputs([tmp_path / "scans"])


def test_a_gpu_halves_batches_then_accumulates_in_main_memory():
    execution, steps = Execution(torch.device("cuda"), 4), []
    while (execution := execution.reduced()) is not None:
        steps.append((execution.batch_size, execution.accumulator_device.type))
    assert steps == [(2, "cuda"), (1, "cuda"), (1, "cpu")]


def test_a_cpu_retries_once_with_single_windows():
    execution = Execution(torch.device("cpu"), 4).reduced()
    assert execution is not None
    assert (execution.batch_size, execution.notes) == (1, ("out of memory: windows in batches of 1",))
    assert execution.reduced() is None
    assert Execution(torch.device("cpu"), 1).reduced() is None


def test_a_scan_with_memory_for_one_window_at_a_time_is_segmented(scans):
    predictor = Predictor(model(1), amp="off", backend="torch", device="cpu")
    expected = predictor.predict(scans[1]).label_map
    backend = predictor.members[0].backend
    backend.predict = fails_above(1, backend.predict)
    prediction = predictor.predict(scans[1])
    assert prediction.notes == ("out of memory: windows in batches of 1",)
    assert np.array_equal(prediction.label_map, expected)


def test_a_scan_too_large_fails_alone(scans, tmp_path):
    predictor = Predictor(model(1), amp="off", backend="torch", device="cpu")
    prepare = predictor.prepare

    def prepare_small(source, foreground=None):
        if source.array.shape[1] > 9:
            raise MemoryError("Unable to allocate 8.00 GiB for an array")
        return prepare(source, foreground)

    predictor.prepare = prepare_small
    outcomes = infer_cases(predictor, scans, tmp_path / "out")
    assert {o.case: (o.status, o.out_of_memory) for o in outcomes} == {
        "a": ("done", False),
        "z": ("done", False),
        "large": ("failed", True),
    }
    with (tmp_path / "out" / "failures.csv").open() as stream:
        [failure] = csv.DictReader(stream)
    assert failure["case"] == "large"
    assert "Unable to allocate 8.00 GiB" in failure["error"]
    assert "--workers" in failure["error"]


def test_a_scan_that_only_fits_alone_is_retried_alone(scans, tmp_path):
    predictor = Predictor(model(1), amp="off", backend="torch", device="cpu")
    real, tried = predictor.run, []

    def run_alone(ready, **options):
        tried.append(ready.scan.path.name)
        if ready.scan.array.shape[1] > 9 and len(tried) < 4:  # others are read and written meanwhile
            raise OutOfMemoryError("out of memory")
        return real(ready, **options)

    predictor.run = run_alone
    outcomes = infer_cases(predictor, scans, tmp_path / "out")
    assert [(o.case, o.status) for o in outcomes] == [("a", "done"), ("large", "done"), ("z", "done")]
    assert tried == ["a.nii.gz", "large.nii.gz", "z.nii.gz", "large.nii.gz"]
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_a_worker_continues_after_a_scan_that_is_too_large(scans, tmp_path, monkeypatch):
    one = model(1)
    save_model(tmp_path / "model.safetensors", one.header, one.tensors)
    spec = PredictorSpec((str(tmp_path / "model.safetensors"),), device="cpu", backend="torch")
    monkeypatch.setattr(TorchBackend, "predict", lambda self, windows: fails_above(0, None)(windows))
    outcome = _infer_one(spec, scans[0], tmp_path / "out", BatchOptions())
    assert (outcome.status, outcome.out_of_memory) == ("failed", True)
    assert "roi_size" in (outcome.error or "")


@pytest.mark.parametrize(("others", "code"), [(False, 5), (True, 4)])
def test_the_exit_code_depends_on_whether_all_failures_are_out_of_memory(
    scans, tmp_path, monkeypatch, others, code
):
    one = model(1)
    save_model(tmp_path / "model.safetensors", one.header, one.tensors)
    if others:
        (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"\x1f\x8b broken")
    real = Predictor.run

    def run_small(self, ready, **options):
        if ready.scan.array.shape[1] > 9:
            raise OutOfMemoryError("out of memory. Buy some.")
        return real(self, ready, **options)

    monkeypatch.setattr(Predictor, "run", run_small)
    command = ["infer", str(tmp_path / "scans"), "--model", str(tmp_path / "model.safetensors")]
    assert run([*command, "--output", str(tmp_path / "out"), "--backend", "torch"]) == code
    assert (tmp_path / "out" / "z.nii.gz").is_file()


@pytest.mark.slow
def test_an_nnunet_with_memory_for_one_window_at_a_time_segments_the_scan(tmp_path):
    scan = write_nnunet_volume(tmp_path / "scans" / "scan_0000.nii.gz", (20, 12, 10))
    predictor = NnunetPredictor(write_model(tmp_path), device="cpu", settings={"batch_size": 4})
    expected = predictor.predict(scan).label_map
    backend = predictor.backends[0][0]
    real = backend.predict
    backend.predict = fails_above(1, real)
    prediction = predictor.predict(scan)
    assert prediction.notes == ("out of memory: windows in batches of 1",)
    assert np.array_equal(prediction.label_map, expected)
    backend.predict = fails_above(0, real)
    outcomes = infer_cases(predictor, [Case("scan", scan)], tmp_path / "out")
    assert outcomes[0].out_of_memory
    assert "roi_size" not in (outcomes[0].error or "")  # a setting that nnU-Nets do not have
    assert "--device" in (outcomes[0].error or "")


def test_no_thread_is_started_once_the_network_runs(scans, tmp_path, monkeypatch):
    """The thread that writes results started after the first case; without memory for it, the cohort ended."""
    one = model(1)
    save_model(tmp_path / "model.safetensors", one.header, one.tensors)
    started: list[str] = []
    start, real = threading.Thread.start, Predictor.run

    def fail(thread):
        started.append(thread.name)
        raise RuntimeError("can't start new thread")

    def run_without_memory(self, ready, **options):
        monkeypatch.setattr(threading.Thread, "start", fail)
        return real(self, ready, **options)

    monkeypatch.setattr(Predictor, "run", run_without_memory)
    command = ["infer", str(tmp_path / "scans"), "--model", str(tmp_path / "model.safetensors")]
    code = run([*command, "--output", str(tmp_path / "out"), "--backend", "torch"])
    monkeypatch.setattr(threading.Thread, "start", start)
    assert (code, started) == (0, [])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_a_memory_limit_fails_one_case_and_another_falls_back(tmp_path):
    """Windows of 512×512: small has one; wide has 4 that do not fit at once; of huge the sums do not fit."""
    one = model(1, dims=2, roi_size=(512, 512))
    layout = one.header.model.model_copy(update={"channels": (24, 4)})
    header = one.header.model_copy(update={"model": layout})
    save_model(tmp_path / "model.safetensors", header, dict(layout.build(header.task).state_dict()))
    for name, width in (("small", 100), ("wide", 1600), ("huge", 90_000)):
        write_picture(tmp_path / "scans" / f"{name}.png", np.full((512, width), 7, np.uint8))
    arguments = [str(tmp_path / name) for name in ("model.safetensors", "scans", "out")]
    command = [sys.executable, "-c", LIMITED, *arguments, "450"]
    limits = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=os.environ | limits, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    cases = {case["case"]: case for case in json.loads(done.stdout)["cases"]}
    assert {name: case["status"] for name, case in cases.items()} == {
        "small": "done",
        "wide": "done",
        "huge": "failed",
    }
    assert cases["wide"]["notes"] == ["every pixel has the value 7", "out of memory: windows in batches of 1"]
    assert "out of memory" in cases["huge"]["error"]


def test_a_model_too_large_for_memory_has_the_out_of_memory_exit_code(scans, tmp_path, monkeypatch, capsys):
    def fails(self, *arguments, **options):
        raise RuntimeError(NO_MEMORY)

    one = model(1)
    save_model(tmp_path / "model.safetensors", one.header, one.tensors)
    monkeypatch.setattr(Predictor, "__init__", fails)
    command = ["infer", str(tmp_path / "scans"), "--model", str(tmp_path / "model.safetensors")]
    assert run([*command, "--output", str(tmp_path / "out")]) == 5
    assert "out of memory" in capsys.readouterr().err
