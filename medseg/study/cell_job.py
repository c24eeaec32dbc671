"""What the process of a cell does: train, predict and evaluate, or preprocess the cases of a study."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from medseg.config.schema import RunConfig
from medseg.data.cases import Part
from medseg.errors import ConfigError, DataError, MedsegError, TrainingStopped
from medseg.evaluation import EvaluationOptions, evaluate_cases
from medseg.files import sha256_json, write_json
from medseg.inference.batch.input_discovery import run_cases
from medseg.inference.model.predictor import Predictor
from medseg.progress import Progress
from medseg.study.cell_run import FAILURE_FILE, ORDER_FILE, CellOrder, read_rows
from medseg.study.comparison import CellScores
from medseg.study.data_changes import advising
from medseg.study.run_scores import check_predicted, predict_again, write_reference
from medseg.training.dataset.preparation import cache_dataset, prepare_dataset
from medseg.training.fit import fit
from medseg.training.loop_setup import network_needs
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import read_log


def execute_cell(folder: Path, progress: Progress) -> None:
    """Execute the cell of a study whose order is in a folder; continue where an earlier process stopped.

    An error is recorded in ``failed.json``, and its traceback is printed.

    Raises:
        ConfigError: if there is no cell in the folder.
    """
    if not (folder / ORDER_FILE).is_file():
        raise ConfigError(
            f"{folder}: expected the folder of a cell with its {ORDER_FILE}, found none",
            hint="Start the study with medseg study run or ablate, which prepare the cells.",
            path=folder,
        )
    order = CellOrder.model_validate_json((folder / ORDER_FILE).read_text(encoding="utf-8"))
    try:
        if order.task == "prepare":
            prepare_cases(order.config, order.part, folder, progress)
        else:
            _train(folder, order, progress)
    except TrainingStopped:
        raise
    except Exception as error:
        hint, code = (error.hint, error.exit_code) if isinstance(error, MedsegError) else (None, 1)
        text = str(error) or type(error).__name__
        message = error.message if isinstance(error, MedsegError) else text
        write_json(folder / FAILURE_FILE, {"error": text, "message": message, "hint": hint, "exit_code": code})
        traceback.print_exc()
        raise


def prepare_cases(config: RunConfig, part: Part, folder: Path, progress: Progress) -> None:
    """Measure, split and preprocess the cases of a study, so that no run's time budget pays for it.

    Raises:
        DataError: if no case is in the part that is compared, or cases are faulty.
    """
    cache = RunFolder(folder / "run").cache(config)
    dataset = prepare_dataset(
        config.data, config.preprocess, network_needs(config), cache / "facts", progress=progress
    )
    if part not in dataset.split.values():
        raise DataError(
            f"the split has no {part} cases to compare",
            hint="Set data.split.test above 0, or compare the validation cases (val instead of test).",
        )
    cache_dataset(dataset, cache, progress)


def train_and_evaluate(folder: Path, order: CellOrder, progress: Progress) -> list[dict[str, Any]]:
    """Train in ``run``, predict and evaluate the cases of a part of the split; return their scores.

    Raises:
        DataError: if a case cannot be predicted, because a lack of memory would otherwise count as a Dice of
            0; or if cases changed since an interrupted training began.
    """
    config = order.config
    with advising(f"Restore the dataset; or remove {folder}, and repeat the study to train this run again."):
        result = fit(config, folder / "run", resume="auto", progress=progress)
    predictor = Predictor(result.run, device=config.train.device, amp=config.train.amp)
    labels = predictor.header.labels.model_dump(mode="json")
    references = order.references / sha256_json(labels)[:8]
    cases = run_cases(result.run, order.part)
    for case in cases:
        write_reference(case, predictor.header, references)
    output = folder / order.part
    predictions = output / "predictions"
    check_predicted(predict_again(predictor, cases, predictions, progress), predictions)
    options = EvaluationOptions(missing="worst", metrics=order.groups)
    evaluate_cases(predictions, references, output / "metrics", options)
    return read_rows(output / "metrics" / "cases.csv")


def _train(folder: Path, order: CellOrder, progress: Progress) -> None:
    rows = train_and_evaluate(folder, order, progress)
    seconds = sum(float(entry["seconds"]) for entry in read_log(RunFolder(folder / "run").log))
    dice = float(CellScores.of({0: rows}).seed_means[0])
    write_json(
        folder / order.part / "complete.json",
        {"digest": order.digest, "groups": order.groups, "seconds": seconds, "dice": dice},
    )
