"""The benchmark of objects in large pictures runs from end to end at toy size."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from conftest import write_picture

from medseg.config.schema import load_config
from medseg.demo.cells import draw_cells, draw_image
from medseg.training.fit import fit

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "large_instances.py"


def write_cells(root):
    for index in range(4):
        rng = np.random.default_rng(index)
        cells = draw_cells((64, 64), (1.0, 1.0), rng, radius=(4.0, 6.0))
        image = np.clip(255 * draw_image(cells, (1.0, 1.0), rng), 0, 255).astype(np.uint8)
        write_picture(root / "images" / f"c{index}.png", image)
        write_picture(root / "labels" / f"c{index}.png", cells)
    return root


@pytest.mark.slow
def test_the_objects_of_strips_are_those_of_the_whole(tmp_path, monkeypatch):
    data = write_cells(tmp_path / "data")
    raw = {
        "spatial_dims": 2,
        "data": {
            "path": str(data),
            "instances": "keep",
            "workers": 0,
            "split": {"name": "fraction", "val": 0.25},
        },
        "task": {"decoder": "distance"},
        "sampling": {"patch_size": [32, 32]},
        "model": {"channels": [4, 8]},
        "train": {
            "epochs": 1,
            "iterations": 60,
            "amp": "off",
            "validate_share": None,
            "optimizer": {"lr": 0.01},
        },
    }
    model = fit(load_config(raw), tmp_path / "run").model
    script, figures = runpy.run_path(str(SCRIPT)), {}
    monkeypatch.setitem(script["main"].__globals__, "print_figures", lambda _, found: figures.update(found))
    toy = {"size": 384, "part": 192, "tile": 64, "objects": 300, "window": 32, "away": 16, "strip": 1,
           "backend": "torch"}  # fmt: skip
    options = [text for name, value in toy.items() for text in (f"--{name}", str(value))]
    assert script["main"]([str(data), "--model", str(model), "--folder", str(tmp_path), *options]) == 0
    assert figures["borders"] == 1  # strips have 64 rows, the part begins at row 96 and its inside is 32 to 144
    assert figures["in_strips"] > 10
    assert figures["in_strips"] == figures["as_a_whole"] == figures["equal"]
    assert figures["labeled"] > 300
