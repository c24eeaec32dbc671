"""Small datasets made on the spot, and the place of the real ones."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from golden_files import Golden
from PIL import Image

from medseg.config.schema import RunConfig, load_config
from medseg.inference.backends import selection
from medseg.system.platform import usable_cores

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--update-golden``, which updates the files in ``tests/golden``."""
    parser.addoption("--update-golden", action="store_true", help="update the files in tests/golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare results with the golden files beside the test, or update them."""
    update = request.config.getoption("--update-golden")
    if update and hasattr(request.config, "workerinput"):
        pytest.fail("--update-golden needs a single process; omit -n or use -n 0", pytrace=False)
    return Golden(request.path.parent, update)


def pytest_configure(config: pytest.Config) -> None:
    """Give each test process its share of the cores; ``-m`` takes exhaustive tests only if it names them."""
    chosen = config.option.markexpr
    if chosen and "exhaustive" not in chosen:
        config.option.markexpr = f"({chosen}) and not exhaustive"
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    if processes > 1:
        threads = max(1, usable_cores() // processes)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def automatic_backend_is_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the backend ``auto`` choose torch, but in tests marked ``openvino``: conversion takes seconds."""
    if request.node.get_closest_marker("openvino") is None:
        monkeypatch.setattr(selection, "_why_torch", lambda setup: "tests do not convert networks")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data beside the project; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data is not here")
    return SHARED / "data"


@pytest.fixture(scope="session")
def recipe() -> ModuleType:
    """The module that makes the weights and inputs of reference networks and compares outputs."""
    path = SHARED / "fixtures" / "models" / "recipe.py"
    if not path.is_file():
        pytest.skip("the reference outputs are not here")
    spec = importlib.util.spec_from_file_location("fixture_recipe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder may be read-only
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = writes
    return module


def write_volume(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI volume with qform and sform code 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4) if affine is None else affine
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, path)
    return path


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_balls(root: Path, cases: int = 6, size: int = 20) -> Path:
    """Volumes with a bright ball (1) that has a brighter core (2), a little noise."""
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"))
    for i in range(cases):
        rng = np.random.default_rng(i)
        center = rng.uniform(7, size - 7, 3).reshape(3, 1, 1, 1)
        distance = np.sqrt(((grid - center) ** 2).sum(axis=0))
        label = ((distance < 6).astype(np.uint8) + (distance < 3)).astype(np.uint8)
        image = (100 * label + rng.normal(0, 10, label.shape)).astype(np.int16)
        write_volume(root / "images" / f"ball_{i}.nii.gz", image)
        write_volume(root / "labels" / f"ball_{i}.nii.gz", label)
    return root


def write_squares(root: Path, cases: int = 6, size: int = 32) -> Path:
    """RGB pictures with one bright square, labeled 255."""
    for i in range(cases):
        rng = np.random.default_rng(i)
        label = np.zeros((size, size + 4), np.uint8)
        y, x = rng.integers(4, size - 16, 2)
        label[y : y + 12, x : x + 12] = 255
        noise = rng.integers(0, 60, (*label.shape, 3))
        image = (noise + (label[..., None] > 0) * np.array([180, 120, 20])).astype(np.uint8)
        write_picture(root / "images" / f"square_{i}.png", image)
        write_picture(root / "labels" / f"square_{i}_mask.png", label)
    return root


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six volumes."""
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six pictures."""
    return write_squares(tmp_path_factory.mktemp("squares"))


def ball_settings(path: Path, **train: Any) -> dict[str, Any]:
    """Settings of a training on balls that takes seconds."""
    return {
        "data": {
            "path": str(path),
            "labels": {"background": 0, "ball": 1, "core": 2},
            "workers": 0,
            "split": {"name": "fraction", "val": 0.2, "test": 0.2},
        },
        "sampling": {"patch_size": [16, 16, 16]},
        "model": {"channels": [4, 8], "dropout": 0.1},
        "train": {"epochs": 2, "iterations": 4, "amp": "off", **train},
    }


@pytest.fixture
def ball_config(balls: Path) -> RunConfig:
    """The settings above, validated."""
    return load_config(ball_settings(balls))
