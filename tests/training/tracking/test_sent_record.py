"""What a tracking service receives."""

import json
from pathlib import Path

from medseg.config.schema import load_config
from medseg.training.tracking.callbacks import TrainStart
from medseg.training.tracking.sent_record import SentRecord


def test_neither_paths_nor_patients_are_sent():
    config = load_config(
        {
            "data": {
                "path": "/hospital/smith",
                "cache": "/hospital/cache",
                "label_dir": "hospital_masks",
                "patient": "(hospital.*)_",
                "split": {"name": "file", "file": "/hospital/split.json"},
                "labels": {"background": 0, "organ": 1},
            },
            "weights": {"file": "/hospital/weights.pth"},
            "train": {
                "ema": 0.9,
                "unlabeled": {"path": "/hospital/more"},
                "tracking": {"mlflow": {"uri": "http://user:password@hospital"}},
            },
        }
    )
    environment = {"python": "3.11", "packages": {"torch": "2.8"}, "cuda_device": None}
    start = TrainStart(config, Path("/hospital/runs/first"), 0, ("organ",), {"train": 3}, (), environment)
    record = SentRecord.of(start, None)
    sent = json.dumps([record.name, record.settings, record.facts])
    assert "hospital" not in sent
    assert "password" not in sent
    assert record.name == "first"
    assert record.settings["train.optimizer.lr"] == config.train.optimizer.lr
    assert record.settings["sampling.patch_size"] == "[64, 64, 64]"
    assert record.facts == {"cases.train": 3, "labels": "organ", "python": "3.11", "packages.torch": "2.8"}
    assert SentRecord.of(start, "other").name == "other"
