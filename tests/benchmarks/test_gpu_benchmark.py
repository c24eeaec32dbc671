"""The benchmark of a GPU runs from end to end at toy size, on a CPU."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_every_part_runs_and_the_file_names_hardware_and_versions(tmp_path):
    output = tmp_path / "gpu.json"
    assert runpy.run_path(str(SCRIPT))["main"](["--size", "toy", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    assert set(found["parts"]) == {"tests", "window", "memory", "idle", "training"}
    assert "torch" in found["machine"]["packages"]
    assert "CPU cores" in found["machine"]["system"]
    parts = found["parts"]
    assert parts["tests"]["failures"] == []
    assert parts["training"]["unet3d medseg"]["steps_per_second"] > 0
    assert parts["training"]["unet2d monai"]["steps_per_second"] > 0
    assert parts["window"]["24x24x24, 104 classes"]["agreement"] > 0.99
    assert parts["memory"]["whole"]["seconds"] > 0
    assert parts["idle"]["updates"] == 2


def test_a_part_that_fails_leaves_the_others_figures(tmp_path, monkeypatch):
    script = runpy.run_path(str(SCRIPT))
    parts = {"window": lambda bench: {"figure": 1}, "memory": lambda bench: 1 / 0}
    monkeypatch.setitem(script["main"].__globals__, "PARTS", parts)
    output = tmp_path / "gpu.json"
    assert script["main"](["--size", "toy", "--output", str(output), "--parts", "window", "memory"]) == 1
    found = json.loads(output.read_text())["parts"]
    assert found["window"]["figure"] == 1
    assert found["memory"]["error"] == "ZeroDivisionError: division by zero"
