"""Short trainings on volumes and pictures give the losses, label maps and Dice in ``tiny_training.json``.

Update the file with ``python -m pytest tests/golden -m "" --update-golden``.
"""

import json

import numpy as np
import pytest
from conftest import ball_settings, write_picture, write_volume

from medseg import EvaluationOptions, Predictor, evaluate_cases, fit, load_config

TOLERANCES = {"losses": (2e-2, 0), "voxels": (0.03, 5), "dice": (0, 0.01)}
TRAINING = {
    "epochs": 3,
    "amp": "off",
    "iterations": 30,
    "batch_size": 2,
    "optimizer": {"name": "adamw", "lr": 0.02},
}


def results(config, folder, write, **options):
    """Train, predict all cases and evaluate; returns epoch losses, voxels per label, and Dice."""
    root = config.data.path
    run = fit(config, folder / "run")
    log = [json.loads(line) for line in (run.run / "log.jsonl").read_text().splitlines()]
    predictor = Predictor(run.model, amp="off")
    voxels = {}
    for image in sorted((root / "images").iterdir()):
        label_map = predictor.predict(image).label_map
        values, counts = np.unique(label_map, return_counts=True)
        voxels[image.name] = {str(v): int(n) for v, n in zip(values, counts, strict=True)}
        write(folder / "predictions" / image.name, label_map)
    scores = evaluate_cases(folder / "predictions", root / "labels", options=EvaluationOptions(**options))
    dice = {f"{row['case']} {row['label']}": round(row["dice"], 4) for row in scores.rows}
    return {"losses": [entry["loss"] for entry in log], "voxels": voxels, "dice": dice}


@pytest.mark.slow
def test_volumes(balls, tmp_path, golden):
    raw = ball_settings(balls, **TRAINING)
    found = results(
        load_config(raw, ["model={name: unet, channels: [8, 16], dropout: 0}"]), tmp_path, write_volume
    )
    golden.check_entry("tiny_training.json", "volumes", found, TOLERANCES)


@pytest.mark.slow
def test_pictures(squares, tmp_path, golden):
    raw = {
        "spatial_dims": 2,
        "data": {
            "path": str(squares),
            "labels": {"background": 0, "square": 255},
            "workers": 0,
            "split": {"name": "fraction", "val": 0.2, "test": 0.2},
        },
        "sampling": {"patch_size": [24, 24]},
        "model": {"channels": [8, 16], "dropout": 0},
        "train": TRAINING,
    }
    found = results(load_config(raw), tmp_path, write_picture, label_suffix="_mask")
    golden.check_entry("tiny_training.json", "pictures", found, TOLERANCES)
