"""Batch inference with a Dask scheduler and two workers on the loopback interface, one of which is killed."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from conftest import write_volume

from medseg.cli.main import run
from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import ZScore
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.distributed import (
    PredictorSpec,
    infer_distributed,
    local_workers,
    worker_environments,
)
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig
from medseg.progress import QuietProgress

CASES = 12


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A model file, and a folder of twelve scans of which one cannot be read."""
    root = tmp_path_factory.mktemp("cohort")
    header = ModelHeader(
        spatial_dims=3,
        channels=1,
        labels=LabelSchema(names={"no": (0,), "a": (1,), "b": (7,)}),
        preprocess=PreprocessConfig(normalize=ZScore()),
        inference=InferenceConfig(roi_size=(24, 24, 24)),
        model=UNetConfig(channels=(8, 16)),
    )
    save_model(root / "model.safetensors", header, dict(header.model.build(header.task).state_dict()))
    for i in range(CASES):
        voxels = np.random.default_rng(i).normal(size=(40, 40, 40)).astype(np.float32)
        write_volume(root / "scans" / f"s{i:02}.nii.gz", voxels)
    (root / "scans" / "s07.nii.gz").write_bytes(b"\x1f\x8b broken")
    return root


@pytest.mark.slow
def test_no_result_is_lost_if_a_worker_is_killed(cohort, tmp_path):
    spec = PredictorSpec((str(cohort / "model.safetensors"),), device="cpu", threads=1, backend="torch")
    cases = find_inputs([cohort / "scans"])
    infer_cases(spec.build(), cases, tmp_path / "serial")
    done, killed = [], []

    class Counter(QuietProgress):
        def advance(self, detail=""):
            done.append(detail)

    def kill(client):
        while len(done) < 3:
            time.sleep(0.05)
        pids = client.run(os.getpid)
        victim = next(iter(pids.values()))
        killed.append(victim)
        os.kill(victim, signal.SIGKILL)

    with local_workers(2) as client:
        murderer = threading.Thread(target=kill, args=(client,))
        murderer.start()
        outcomes = infer_distributed(spec, cases, tmp_path / "two", client, progress=Counter())
        murderer.join()
    assert len(killed) == 1
    assert [o.case for o in outcomes] == [c.id for c in cases]
    assert [o.case for o in outcomes if o.status == "failed"] == ["s07"]
    for case in cases:
        if case.id != "s07":
            one, two = (read_scan(tmp_path / name / f"{case.id}.nii.gz") for name in ("serial", "two"))
            assert np.array_equal(one.array, two.array)
    assert "s07" in (tmp_path / "two" / "failures.csv").read_text()
    assert not list((tmp_path / "two").rglob("*.tmp*"))


@pytest.mark.slow
def test_the_command(cohort, tmp_path, capsys):
    command = ["infer", str(cohort / "scans" / "s00.nii.gz"), "--model", str(cohort / "model.safetensors")]
    assert run([*command, "--output", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert "1 done" in capsys.readouterr().out
    assert (tmp_path / "out" / "medseg.json").is_file()


def test_workers_share_the_cores_and_the_gpus():
    shares = worker_environments(3, 8, ["0", "GPU-1f"])
    assert [share["OMP_NUM_THREADS"] for share in shares] == ["2"] * 3
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "GPU-1f", "0"]
    assert worker_environments(4, 2, [])[0]["OMP_NUM_THREADS"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in worker_environments(4, 2, [])[0]


@pytest.mark.slow
def test_a_worker_computes_with_its_share_of_the_cores():
    with local_workers(1, "cpu") as client:
        threads = client.run(torch.get_num_threads)
    assert set(threads.values()) == {len(os.sched_getaffinity(0))}


@pytest.mark.slow
def test_workers_do_not_replace_scans(cohort, tmp_path, capsys):
    scan = tmp_path / "s0.nii.gz"
    scan.write_bytes((cohort / "scans" / "s00.nii.gz").read_bytes())
    before = scan.read_bytes()
    command = ["infer", str(scan), "--model", str(cohort / "model.safetensors"), "--output", str(tmp_path)]
    assert run([*command, "--workers", "1", "--overwrite"]) == 2
    assert "would replace input files" in capsys.readouterr().err
    assert scan.read_bytes() == before


def test_an_unreachable_scheduler_is_reported(cohort, tmp_path, capsys):
    command = ["infer", str(cohort / "scans"), "--model", str(cohort / "model.safetensors"), "--output", "x"]
    assert run([*command, "--scheduler", "nonsense"]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert run([*command, "--scheduler", "tcp://a:1", "--workers", "2"]) == 2
