"""``medseg demo``: the whole way, from files to tables and pictures, on data made here."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.config.schema import load_config
from medseg.demo import phantoms, shapes
from medseg.errors import ConfigError
from medseg.evaluation import Evaluation, evaluate_cases
from medseg.files import write_text
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import run_cases
from medseg.inference.batch.options import BatchOptions
from medseg.inference.model.predictor import Predictor
from medseg.training.fit import fit
from medseg.training.progress import ConsoleProgress

_MARKER = "made-by-medseg-demo.txt"


@dataclass(frozen=True)
class Demo:
    """One demonstration: its data and its settings."""

    title: str
    write: Callable[[Path], None]
    settings: dict[str, Any]


DEMOS = {
    "phantoms": Demo(
        "CT-like abdominal phantoms, 3D",
        lambda folder: phantoms.write_phantoms(folder, cases=40, seed=0),
        {
            "spatial_dims": 3,
            "data": {"labels": phantoms.LABELS, "split": {"name": "fraction", "val": 0.1, "test": 0.2}},
            "preprocess": {"normalize": {"name": "ct"}},
            "sampling": {"patch_size": [48, 48, 24]},
            "model": {
                "name": "unet",
                "channels": [12, 24, 48, 96],
                "stride": [1, [2, 2, 1], 2, 2],
                "kernel": [[3, 3, 1], 3, 3, 3],
            },
            "train": {"epochs": 6, "iterations": 100, "batch_size": 2, "ema": 0.98, "validate_every": 3},
        },
    ),
    "shapes": Demo(
        "colored shapes, RGB pictures, 2D",
        lambda folder: shapes.write_shapes(folder, cases=240, seed=0),
        {
            "spatial_dims": 2,
            "data": {"labels": shapes.LABELS, "split": {"name": "fraction", "val": 0.05, "test": 0.1}},
            "preprocess": {"normalize": {"name": "range"}},
            "sampling": {"patch_size": [128, 128]},
            "augment": {"affine": {"scale": [0.9, 1.1]}},
            "model": {"name": "unet", "channels": [12, 24, 48, 96, 128]},
            "train": {"epochs": 4, "iterations": 200, "batch_size": 6, "ema": 0.98, "validate_every": 2},
        },
    ),
}


def run_demo(output: Path, *, say: Callable[[str], None], show: Callable[[Evaluation], None]) -> None:
    """Make the data, train, predict the test cases, evaluate them; all of it below ``output``.

    Raises: ConfigError if ``output`` holds anything the demonstration did not make.
    """
    _take_folder(output)
    began = time.monotonic()
    for name, demo in DEMOS.items():
        say(f"\n{demo.title}")
        show(_run_one(output / name, demo))
        say(f"pictures: {output / name / 'predictions' / 'overlays'}")
        say(f"tables:   {output / name / 'metrics' / 'cases.csv'}")
        say(f"model:    {output / name / 'run' / 'model.safetensors'}")
    say(f"\ndone in {(time.monotonic() - began) / 60:.1f} minutes; delete {output} when you like")


def _run_one(folder: Path, demo: Demo) -> Evaluation:
    demo.write(folder / "data")
    settings = demo.settings | {"data": demo.settings["data"] | {"path": str(folder / "data")}}
    with ConsoleProgress() as progress:
        result = fit(load_config(settings), folder / "run", progress=progress)
    predictions = folder / "predictions"
    outcomes = infer_cases(
        Predictor(result.run), run_cases(result.run, "test"), predictions, BatchOptions(overlays=True)
    )
    failed = [f"{o.case}: {o.error}" for o in outcomes if o.status == "failed"]
    if failed:
        raise ConfigError(f"the demonstration failed on {failed}")
    return evaluate_cases(predictions, folder / "data" / "labels", folder / "metrics")


def _take_folder(output: Path) -> None:
    if output.exists():
        if not (output / _MARKER).is_file():
            raise ConfigError(f"{output}: exists and was not made by medseg demo; choose another --output")
        shutil.rmtree(output)
    write_text(output / _MARKER, "This folder was made by `medseg demo`, which makes it anew each time.\n")
