"""Trainings that tell objects apart, from files to files."""

import csv
import json
from typing import Any

import numpy as np
import pytest
from conftest import write_picture, write_volume
from PIL import Image
from pycocotools.coco import COCO

from medseg.config.schema import load_config
from medseg.demo.cells import draw_cells, draw_image
from medseg.errors import ConfigError
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.model.predictor import Predictor
from medseg.instances.matching import match_objects
from medseg.training.fit import fit


def write_cells(root, cases=4, size=48):
    for i in range(cases):
        rng = np.random.default_rng(i)
        cells = draw_cells((size, size), (1.0, 1.0), rng, radius=(5.0, 7.0))
        image = np.clip(255 * draw_image(cells, (1.0, 1.0), rng), 0, 255).astype(np.uint8)
        write_picture(root / "images" / f"c{i}.png", image)
        write_picture(root / "labels" / f"c{i}.png", cells)
    return root


def settings(root, dims=2, **train):
    return {
        "spatial_dims": dims,
        "data": {
            "path": str(root), "instances": "keep", "labels": {"background": 0, "cell": 1}, "workers": 0,
            "split": {"name": "fraction", "val": 0.25, "test": 0.0},
        },
        "sampling": {"patch_size": [32] * dims},
        "model": {"channels": [4, 8]},
        "train": {"epochs": 1, "iterations": 2, "amp": "off", "validate_share": None, **train},
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["flows", "distance", "rays"])
def test_from_numbered_pictures_to_numbered_pictures(tmp_path, decoder):
    root = write_cells(tmp_path / "data")
    result = fit(load_config(settings(root), [f"task.decoder={decoder}"]), tmp_path / "run")
    predictor = Predictor(result.model)
    assert predictor.header.instances.decoder == decoder
    outcomes = infer_cases(predictor, find_inputs([root / "images"]), tmp_path / "out")
    assert [outcome.status for outcome in outcomes] == ["done"] * 4
    label_map = np.asarray(Image.open(tmp_path / "out" / "c0.png"))
    assert label_map.shape == (48, 48)
    with (tmp_path / "out" / "instances.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["case"] == "c0"]
    assert len(rows) == len(np.unique(label_map[label_map > 0]))
    geojson: Any = json.loads((tmp_path / "out" / "instances" / "c0.geojson").read_text())
    assert len(geojson["features"]) == len(rows)
    with pytest.raises(ConfigError, match=r"tells objects apart: not possible with inference\.scales"):
        Predictor(result.model, force=True, settings={"scales": [1.5]})


@pytest.mark.slow
def test_touching_cells_are_learned(tmp_path):
    root = write_cells(tmp_path / "data", cases=8, size=64)
    config = load_config(
        settings(root, iterations=150, batch_size=4), ["train.optimizer.lr=0.01", "model.channels=[8,16,32]"]
    )
    result = fit(config, tmp_path / "run")
    assert result.best > 0.7
    found = Predictor(result.model).predict(root / "images" / "c0.png").instances
    reference = np.asarray(Image.open(root / "labels" / "c0.png")).astype(int)
    tp, fp, fn = match_objects(reference, found.label_map()).counts()
    assert tp / (tp + fp + fn) > 0.7
    infer_cases(Predictor(result.model), find_inputs([root / "images" / "c0.png"]), tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "instances" / "c0.json"))
    drawn = np.zeros(reference.shape, int)
    for entry in coco.loadAnns(coco.getAnnIds()):
        drawn[coco.annToMask(entry) > 0] = entry["id"]
    assert np.array_equal(drawn, np.asarray(Image.open(tmp_path / "out" / "c0.png")))


def test_volumes_with_thick_slices(tmp_path):
    root = tmp_path / "data"
    affine = np.diag([1.0, -1.0, 3.0, 1.0])
    for i in range(3):
        cells = draw_cells((20, 20, 8), (1.0, 1.0, 3.0), np.random.default_rng(i), radius=(4.0, 6.0))
        write_volume(root / "images" / f"v{i}.nii.gz", 100.0 * (cells > 0), affine)
        write_volume(root / "labels" / f"v{i}.nii.gz", cells.astype(np.int16), affine)
    raw = settings(root, dims=3)
    raw["sampling"] = {"patch_size": [16, 16, 8]}
    result = fit(load_config(raw), tmp_path / "run")
    predictor = Predictor(
        result.model, force=True, settings={"flips": [0], "instances": {"flow_error": 100.0, "foreground": 0.3}}
    )
    assert predictor.header.inference.instances.flow_error == 100
    prediction = predictor.predict(root / "images" / "v0.nii.gz")
    assert prediction.instances.spacing == (1.0, 1.0, 3.0)
    assert prediction.instances.shape == prediction.label_map.shape == (20, 20, 8)
