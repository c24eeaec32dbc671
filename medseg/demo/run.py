"""Demonstrations on synthetic data: training, prediction, evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.config.schema import load_config
from medseg.demo import phantoms, shapes
from medseg.errors import ConfigError, DataError, TrainingStopped
from medseg.evaluation import Evaluation, evaluate_cases
from medseg.files import write_text
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import run_cases
from medseg.inference.batch.options import BatchOptions
from medseg.inference.model.predictor import Predictor
from medseg.progress import ConsoleProgress
from medseg.training.fit import fit

RESTART = "Run the demonstration again; it starts over."
"""The hint after an interruption."""
_MARKER = "made-by-medseg-demo.txt"


@dataclass(frozen=True)
class Demo:
    """Data and settings of one demonstration.

    Attributes:
        title: one line that describes the data.
        write: writes the dataset into a folder.
        settings: configuration for ``load_config``, without ``data.path``.
    """

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


def shorten(demo: Demo) -> Demo:
    """Return a demonstration that trains for a quarter of the updates, with lower scores.

    Example:
        >>> shorten(DEMOS["phantoms"]).settings["train"]["iterations"]
        25
    """
    train = demo.settings["train"]
    quarter = {"iterations": train["iterations"] // 4, "validate_every": train["epochs"], "ema": 0.9}
    return replace(demo, settings=demo.settings | {"train": train | quarter})


def run_demo(demo: Demo, folder: Path) -> Evaluation:
    """Write the data of a demonstration, train, predict the test cases and evaluate them.

    Args:
        demo: one of ``DEMOS``.
        folder: receives ``data``, ``run``, ``predictions`` and ``metrics``.

    Raises:
        DataError: if a test case cannot be predicted.
        TrainingStopped: on SIGTERM or SIGINT.
    """
    demo.write(folder / "data")
    settings = demo.settings | {"data": demo.settings["data"] | {"path": str(folder / "data")}}
    try:
        with ConsoleProgress() as progress:
            result = fit(load_config(settings), folder / "run", progress=progress)
    except TrainingStopped as error:
        error.hint = RESTART
        raise
    predictions = folder / "predictions"
    outcomes = infer_cases(
        Predictor(result.run), run_cases(result.run, "test"), predictions, BatchOptions(overlays=True)
    )
    failed = [f"{o.case}: {o.error}" for o in outcomes if o.status in ("kept", "failed")]
    if failed:
        raise DataError(f"{folder}: cases of the demonstration failed: {'; '.join(failed)}")
    return evaluate_cases(predictions, folder / "data" / "labels", folder / "metrics")


def prepare_folder(output: Path) -> None:
    """Make an empty folder for demonstrations; an earlier demonstration there is removed.

    Raises:
        ConfigError: if the folder exists and was not written by ``medseg demo``.
    """
    if output.exists():
        if not (output / _MARKER).is_file():
            raise ConfigError(
                f"{output}: exists and was not written by medseg demo",
                hint="Choose another --output.",
                path=output,
            )
        shutil.rmtree(output)
    write_text(output / _MARKER, "`medseg demo` wrote this folder and replaces it when it runs again.\n")
