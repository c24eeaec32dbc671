"""A tiny model, a model that answers points, a dataset and a client for tests of the server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from conftest import write_volume
from starlette.testclient import TestClient

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.models import UNetConfig
from medseg.server.app import create_app
from medseg.server.models import AutomaticModel, PromptModel
from medseg.server.options import ServerOptions

LABELS = LabelSchema(names={"background": (0,), "ball": (1,), "core": (2,)})
SHAPE = (12, 14, 10)
TILTED = np.array([[-1.0, 0, 0, 5], [0, -1.5, 0, 3], [0, 0, 2, -4], [0, 0, 0, 1]])


def save_tiny(path: Path, seed: int = 0, dims: int = 3, labels: LabelSchema = LABELS) -> Path:
    """A model file with random weights."""
    torch.manual_seed(seed)
    header = ModelHeader(
        spatial_dims=dims, channels=1, labels=labels, preprocess=PreprocessConfig(),
        inference=InferenceConfig(roi_size=(8,) * dims), model=UNetConfig(channels=(2, 4)),
        augmentation=TrainedAugmentation(mirror_axes=tuple(range(dims))),
    )  # fmt: skip
    save_model(path, header, dict(header.model.build(header.task).state_dict()))
    return path


def tiny_predictor(path: Path, seed: int = 0, dims: int = 3) -> Predictor:
    """The model on the CPU."""
    return Predictor(save_tiny(path, seed, dims), device="cpu", backend="torch", amp="off")


class CubeSession:
    """Cubes of 3 voxels around positive points, without those around negative ones."""

    def __init__(self, shape):
        self.shape, self.first, self.made = shape, np.zeros(shape, bool), []
        self.calls = 0

    @property
    def prompts(self):
        return tuple(self.made)

    @property
    def mask(self):
        mask = self.first.copy()
        for point in self.made:
            where = tuple(slice(max(0, round(p) - 1), round(p) + 2) for p in point.position)
            mask[where] = point.positive
        return mask

    def add(self, prompt):
        self.calls += 1
        self.made.append(prompt)
        return self.mask

    def undo(self):
        self.made.pop()
        return self.mask

    def restart(self, mask=None):
        self.made, self.first = [], np.zeros(self.shape, bool) if mask is None else mask.copy()

    def save(self, path):
        raise NotImplementedError


class Cubes:
    """A model that answers points with cubes."""

    name, digest = "cubes", "c" * 64

    def __init__(self, spatial_dims=(2, 3)):
        self.spatial_dims, self.opened = spatial_dims, []

    def open(self, scan, spacing=None):
        shape = scan.grid.shape if hasattr(scan, "grid") else scan.shape
        self.opened.append(CubeSession(shape))
        return self.opened[-1]


def write_dataset(root: Path, labeled: int = 1, unlabeled: int = 2) -> Path:
    """Volumes scan_0, scan_1 …, of which the first are labeled."""
    for index in range(labeled + unlabeled):
        rng = np.random.default_rng(index)
        write_volume(
            root / "images" / f"scan_{index}.nii.gz", rng.integers(0, 99, SHAPE).astype(np.int16), TILTED
        )
        if index < labeled:
            label = np.zeros(SHAPE, np.uint8)
            label[3:6, 3:6, 3:6] = 1
            write_volume(root / "labels" / f"scan_{index}.nii.gz", label, TILTED)
    return root


def make_app(root: Path, in_memory=(), **options):
    """An application with models in memory, or, if these are None, with those that the options name."""
    return create_app(ServerOptions(data=root, **options), models=in_memory)


def client_of(app, **headers) -> TestClient:
    """A client that calls the server by its usual name."""
    return TestClient(app, base_url="http://127.0.0.1:8000", headers=headers, raise_server_exceptions=True)


def small_models(folder: Path):
    """One automatic model and one that answers points."""
    return [AutomaticModel("tiny", tiny_predictor(folder / "tiny.safetensors")), PromptModel("cubes", Cubes())]
